//! Last known connections: with Cinder unavailable, a node boots from the connection of an earlier boot.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::Attach;
use super::error::Outage;
use super::request::VolumeRequest;
use super::resolution::ResolvedVolume;
use crate::model::{Attachment, AttachmentState, Connection, ConnectionSource, Iqn};
use crate::store::{Attachments, StoreError};

/// The last known connection, if the volume is certainly still this node's; otherwise the reason against its use.
///
/// `outage` is why Cinder or the backend cannot be used, if so. `max_age` is the policy for that case; `None` forbids the use.
pub(super) async fn find_last_known(
    records: &Attachments,
    max_age: Option<Duration>,
    request: &VolumeRequest<'_>,
    volume: &str,
    outage: Option<&Outage>,
) -> Result<ResolvedVolume, String> {
    let started_at = Instant::now();
    let max_age = match (max_age, outage) {
        (None, Some(_)) => return Err("last known connections are disabled (when_cinder_is_away)".into()),
        (max_age, _) => max_age.unwrap_or(Duration::MAX),
    };
    let record = records.get(request.node.uuid, volume).await.ok().flatten();
    let server = record.as_ref().and_then(Attachment::server);
    let (connection, resolved_at) =
        check_record(record.as_ref(), volume, request.initiator.as_str(), max_age, Timestamp::now())?;
    let source = ConnectionSource::LastKnown { resolved_at, outage: outage.map(Outage::to_string) };
    Ok(ResolvedVolume { connection, source, duration: started_at.elapsed(), attachment: None, server })
}

impl Attach {
    /// Finds the connection of a node's attached volume that was recorded at its last export, whatever its age, and when
    /// Cinder returned it. Cinder is not called. `Err` in the result: the reason why none is recorded.
    pub async fn find_recorded(
        &self,
        node: Uuid,
        volume: &str,
        initiator: &Iqn,
    ) -> Result<Result<(Connection, Timestamp), String>, StoreError> {
        let record = self.state.records.get(node, volume).await?;
        let now = Timestamp::now();
        Ok(check_record(record.as_ref(), volume, initiator.as_str(), Duration::MAX, now))
    }
}

/// Checks that a record shows the volume as attached with this initiator name; returns its connection and the age.
pub(super) fn check_record(
    record: Option<&Attachment>,
    volume: &str,
    initiator: &str,
    max_age: Duration,
    now: Timestamp,
) -> Result<(Connection, Timestamp), String> {
    let Some(record @ Attachment { connection: Some(connection), resolved_at: Some(resolved_at), .. }) =
        record
    else {
        return Err(format!("volume {volume} has no last known connection"));
    };
    if record.state != AttachmentState::Attached {
        return Err(format!("volume {volume} is being detached"));
    }
    if record.initiator.as_deref() != Some(initiator) {
        return Err(format!("volume {volume} was attached with another initiator name"));
    }
    if now.duration_since(*resolved_at).unsigned_abs() > max_age {
        return Err(format!("the last known connection of volume {volume} is older than last_known_max_age"));
    }
    let connection = Connection::from_cinder(connection).map_err(|error| error.to_string())?;
    Ok((connection, *resolved_at))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    const INITIATOR: &str = "iqn.2017-08.org.openstack.web-1";
    const HOUR: Duration = Duration::from_secs(3600);

    fn record() -> Attachment {
        let connection = json!({
            "target_portal": "192.0.2.1:3260",
            "target_iqn": "iqn.2010-10.org.openstack:volume-root",
            "target_lun": 1,
        });
        Attachment {
            state: AttachmentState::Attached,
            connection: Some(serde_json::from_value(connection).expect("an object")),
            initiator: Some(INITIATOR.into()),
            resolved_at: Some(Timestamp::UNIX_EPOCH),
            ..Attachment::new(Uuid::nil(), "root", Uuid::nil(), Vec::new(), Timestamp::UNIX_EPOCH)
        }
    }

    fn check(record: &Attachment, age: Duration) -> Result<(), String> {
        let now = Timestamp::UNIX_EPOCH + age;
        check_record(Some(record), "root", INITIATOR, HOUR, now).map(drop)
    }

    #[test]
    fn only_a_recent_connection_of_an_attached_volume_is_used() {
        assert_eq!(check(&record(), HOUR), Ok(()));
        let too_old = "the last known connection of volume root is older than last_known_max_age";
        assert_eq!(check(&record(), HOUR + Duration::from_secs(1)), Err(too_old.into()));
        let without_connection = Attachment { connection: None, ..record() };
        assert_eq!(check(&without_connection, HOUR), Err("volume root has no last known connection".into()));
        for state in [AttachmentState::Intended, AttachmentState::Reserved, AttachmentState::Detaching] {
            let reason = "volume root is being detached".to_owned();
            assert_eq!(check(&Attachment { state, ..record() }, HOUR), Err(reason), "{state:?}");
        }
        let renamed = Attachment { initiator: Some("iqn.2017-08.org.openstack.old".into()), ..record() };
        let reason = "volume root was attached with another initiator name";
        assert_eq!(check(&renamed, HOUR), Err(reason.into()));
    }
}
