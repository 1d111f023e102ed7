//! [`Outcome`]: what the results of a resolution mean for the machine, and the responses that ask it to retry.
//!
//! The strictest result decides. If Cinder refused one volume, the machine does not boot from the others. A transient
//! error makes the machine wait, and so does work of volboot itself. Last known connections serve only if every missing volume is merely unavailable.

use std::fmt;

use uuid::Uuid;

use super::error::{AttachError, Outage, TARGETS_CHANGED};
use super::progress::{Progress, VolumeResults};
use super::resolution::{Resolution, ResolvedVolume};
use crate::model::InstanceServer;

/// The shortest and the longest retry delay of a waiting machine, in seconds.
const MIN_RETRY_SECONDS: u32 = 2;
const MAX_RETRY_SECONDS: u32 = 6;

/// What the results of a resolution mean for the machine.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    /// At least one volume is refused, with the reasons.
    Refused(String),
    /// No volume is refused, at least one has a transient error, with the reasons.
    Transient(String),
    /// No volume is refused or has a transient error; volboot is at work on at least one, with the reasons.
    Busy(String),
    /// Each volume is resolved or unavailable.
    Usable {
        resolved: Vec<(&'a str, &'a ResolvedVolume)>,
        /// The volumes for which Cinder or the backend is unavailable.
        outages: Vec<(&'a str, &'a Outage)>,
    },
}

/// What became of a volume after its resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SupersededResult {
    /// The node has lost the volume, or another attachment holds the volume.
    Lost,
    /// Its connection is another one.
    ExportedAgain,
}

impl<'a> Outcome<'a> {
    pub(super) fn of(results: &'a VolumeResults) -> Self {
        let (mut refusals, mut transients, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        let (mut resolved, mut outages) = (Vec::new(), Vec::new());
        for (volume, result) in results {
            match result {
                Ok(connected) => resolved.push((volume.as_str(), connected)),
                Err(AttachError::Refused(reason)) => refusals.push(reason.as_str()),
                Err(AttachError::Transient(reason)) => transients.push(reason.as_str()),
                Err(AttachError::Busy(reason)) => busy.push(reason.as_str()),
                Err(AttachError::Unavailable(outage)) => outages.push((volume.as_str(), outage)),
            }
        }
        if !refusals.is_empty() {
            Self::Refused(refusals.join("; "))
        } else if !transients.is_empty() {
            Self::Transient(transients.join("; "))
        } else if !busy.is_empty() {
            Self::Busy(busy.join("; "))
        } else {
            Self::Usable { resolved, outages }
        }
    }
}

/// The response without a Cinder.
pub(super) fn refuse_without_cinder() -> Resolution {
    Resolution::Refused("storage interface cinder is set, but Cinder is not configured".into())
}

/// The response while the resolution is queued or running.
pub(super) fn wait_for_resolution(progress: &Progress) -> Resolution {
    match progress.queue_position() {
        Some(position) => Resolution::Wait {
            reason: format!("the request to Cinder is queued at position {position}"),
            seconds: MIN_RETRY_SECONDS.saturating_add((position / 50) as u32).min(MAX_RETRY_SECONDS),
        },
        None => Resolution::Wait { reason: "Cinder has not answered yet".into(), seconds: MIN_RETRY_SECONDS },
    }
}

/// The response to a machine beyond the limit of boot sessions.
pub(super) fn wait_for_capacity() -> Resolution {
    Resolution::Wait { reason: "too many boot requests are in flight".into(), seconds: MAX_RETRY_SECONDS }
}

/// The response once the resolved connections no longer hold.
pub(super) fn wait_after_change(change: SupersededResult) -> Resolution {
    let reason = match change {
        SupersededResult::Lost => TARGETS_CHANGED,
        SupersededResult::ExportedAgain => "another instance exported a volume again during the request",
    };
    Resolution::Wait { reason: reason.into(), seconds: MIN_RETRY_SECONDS }
}

/// The response to a transient error.
pub(super) fn wait_for_condition(reason: String) -> Resolution {
    Resolution::Wait { reason, seconds: MIN_RETRY_SECONDS * 2 }
}

/// The response while volboot is at work on a volume.
pub(super) fn wait_for_work(reason: String) -> Resolution {
    Resolution::Wait { reason, seconds: MIN_RETRY_SECONDS }
}

/// The response during an outage of Cinder or a backend, when `reason` speaks against the last known connection.
pub(super) fn wait_for_cinder(outage: &Outage, reason: &str) -> Resolution {
    let reason = format!("{outage}; {reason}");
    Resolution::Wait { reason, seconds: MAX_RETRY_SECONDS - 1 }
}

/// The response while the store is read-only, when `reason` speaks against a recorded connection.
pub(super) fn wait_for_writable_store(store: &str, reason: &str) -> Resolution {
    let reason = format!("the store is read-only, so volboot attaches no volume ({store}); {reason}");
    Resolution::Wait { reason, seconds: MAX_RETRY_SECONDS }
}

/// The response while the shared store does not respond, when `reason` speaks against a recorded connection.
pub(super) fn wait_for_store(outage: &impl fmt::Display, reason: &str) -> Resolution {
    wait_for_store_outage(format!("{outage}, so volboot attaches no volume; {reason}"))
}

/// The response while an outage of the shared store permits no boot, for this reason.
pub(super) fn wait_for_store_outage(reason: String) -> Resolution {
    Resolution::Wait { reason, seconds: MAX_RETRY_SECONDS }
}

/// The predicted response to the first boot request of a volume. `server` has the volume attached for the node.
pub(super) fn predict_attachment(volume: &str, server: Option<Uuid>) -> Resolution {
    let reason = match server {
        Some(server) => format!(
            "volume {volume} is attached by {}; the machine's boot request exports it",
            InstanceServer(server)
        ),
        None => format!("volume {volume} will be attached on the machine's boot request"),
    };
    Resolution::Wait { reason, seconds: MIN_RETRY_SECONDS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_result_decides() {
        let refused = AttachError::Refused("a is in use".into());
        let transient = AttachError::Transient("b is reserved".into());
        let unavailable = AttachError::cinder_unavailable("no answer");
        let outcome = |errors: &[&AttachError]| {
            let results: VolumeResults =
                errors.iter().map(|&error| ("root".to_owned(), Err(error.clone()))).collect();
            format!("{:?}", Outcome::of(&results))
        };
        let busy = AttachError::Busy("boot-2 is asking Cinder".into());
        for (errors, expected) in [
            (vec![&busy, &transient], r#"Transient("b is reserved")"#),
            (vec![&unavailable, &busy], r#"Busy("boot-2 is asking Cinder")"#),
            (vec![&unavailable, &transient, &refused], r#"Refused("a is in use")"#),
            (vec![&refused, &refused], r#"Refused("a is in use; a is in use")"#),
            (vec![&unavailable, &transient], r#"Transient("b is reserved")"#),
            (vec![&unavailable], r#"Usable { resolved: [], outages: [("root", Cinder("no answer"))] }"#),
        ] {
            assert_eq!(outcome(&errors), expected);
        }
    }
}
