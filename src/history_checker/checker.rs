//! The checker: a pure function over a history. It knows the rules of a safe boot, and nothing of volboot's records.
//!
//! 1. *One node per attachment*: no script names an attachment that was exported to another node, and no attachment
//!    that one node booted from is exported to another.
//! 2. *One node per volume*: no script for a node while another node, which got a script with the same volume, still
//!    has its attachment. Only a multi-attachable volume may have several nodes.
//! 3. *No old connection*: when the machine asked, the attachment of its script was not deleted, and no later export of it
//!    was known to volboot. A last known connection may be older than an export: Cinder does not answer then.
//! 4. *No lost volume*: when the machine asked, the node had the volume, or got it before the script left. Without the
//!    store, an instance may not know better: rules 1 to 3 suffice there.
//! 5. *No boot in maintenance*, by the same measure.
//!
//! A request takes time. What held at any moment between the request and its script is no fault: until the script leaves,
//! no client can tell the order.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::history::{Effect, HistoryEntry, RunEvent, ScriptSource, ScriptVolume, Usage};

/// A broken rule: the position of its event in the history, and the fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) position: usize,
    pub(super) fault: String,
}

/// Checks a history. `shared`: the multi-attachable volumes.
pub(super) fn check(history: &[HistoryEntry], shared: &BTreeSet<String>) -> Result<(), Violation> {
    let mut known = Known::default();
    for (position, entry) in history.iter().enumerate() {
        known.take(position, &entry.event, shared).map_err(|fault| Violation { position, fault })?;
    }
    Ok(())
}

/// The history up to an event.
#[derive(Debug, Default)]
struct Known {
    attachments: BTreeMap<u32, KnownAttachment>,
    exports: BTreeMap<u32, KnownExport>,
    /// The positions at which calls were sent.
    sent: BTreeMap<u32, usize>,
    /// The nodes that booted from an attachment.
    users: BTreeMap<u32, BTreeSet<Uuid>>,
    requests: BTreeMap<u32, usize>,
    volumes: BTreeMap<(Uuid, String, Usage), Right>,
    /// The nodes that were in maintenance: since when, and until when.
    maintenance: BTreeMap<Uuid, (usize, Option<usize>)>,
}

#[derive(Debug, Default)]
struct KnownAttachment {
    volume: String,
    deleted: Option<usize>,
}

#[derive(Debug)]
struct KnownExport {
    attachment: u32,
    node: Uuid,
    call: u32,
    answered: Option<usize>,
}

/// Whether a node has a volume: the last position at which it had.
#[derive(Debug)]
enum Right {
    Granted,
    RevokedAt(usize),
}

impl Known {
    fn take(&mut self, position: usize, event: &RunEvent, shared: &BTreeSet<String>) -> Result<(), String> {
        match event {
            RunEvent::Granting { node, volume, usage } => {
                self.volumes.insert((*node, volume.clone(), *usage), Right::Granted);
            }
            RunEvent::Revoked { node, volume, usage } => {
                self.volumes.insert((*node, volume.clone(), *usage), Right::RevokedAt(position));
            }
            RunEvent::MaintenanceSet { node } => drop(self.maintenance.insert(*node, (position, None))),
            RunEvent::MaintenanceEnding { node } => {
                if let Some((_, end)) = self.maintenance.get_mut(node) {
                    end.get_or_insert(position);
                }
            }
            RunEvent::Asked { request, .. } => drop(self.requests.insert(*request, position)),
            RunEvent::CallSent { call, .. } => drop(self.sent.insert(*call, position)),
            RunEvent::CallAnswered { call, status: 200..300 } => {
                let export = self.exports.values_mut().find(|export| export.call == *call);
                if let Some(export) = export {
                    export.answered = Some(position);
                }
            }
            RunEvent::CallEffect { call, effect } => self.take_effect(position, *call, effect)?,
            RunEvent::Script { node, request, volumes } => {
                let asked_at = *self.requests.get(request).ok_or("a script without a request")?;
                self.check_maintenance(*node, asked_at, volumes)?;
                for volume in volumes {
                    self.check_volume(*node, asked_at, volume, shared)?;
                }
            }
            RunEvent::Fault(_)
            | RunEvent::Operation { .. }
            | RunEvent::Told { .. }
            | RunEvent::CallAnswered { .. } => {}
        }
        Ok(())
    }

    fn take_effect(&mut self, position: usize, call: u32, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Reserved { volume, attachment } => {
                let new = KnownAttachment { volume: volume.clone(), deleted: None };
                self.attachments.insert(*attachment, new);
            }
            Effect::Exported { attachment, export, node } => {
                let export =
                    (*export, KnownExport { attachment: *attachment, node: *node, call, answered: None });
                self.exports.extend([export]);
                let mut users = self.users.get(attachment).into_iter().flatten();
                if let Some(user) = users.find(|user| *user != node) {
                    return Err(format!("attachment {attachment} of node {user} is exported to node {node}"));
                }
            }
            Effect::Completed { .. } => {}
            Effect::Deleted { attachment } => {
                if let Some(attachment) = self.attachments.get_mut(attachment) {
                    attachment.deleted = Some(position);
                }
            }
        }
        Ok(())
    }

    fn check_maintenance(&self, node: Uuid, asked_at: usize, volumes: &[ScriptVolume]) -> Result<(), String> {
        let is_from_store = volumes.iter().all(|volume| volume.source != ScriptSource::Confirmed);
        match self.maintenance.get(&node) {
            Some((since, None)) if *since < asked_at && is_from_store => {
                Err(format!("node {node} was in maintenance when its machine asked, and still is"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_volume(
        &mut self,
        node: Uuid,
        asked_at: usize,
        script: &ScriptVolume,
        shared: &BTreeSet<String>,
    ) -> Result<(), String> {
        let ScriptVolume { volume, attachment, export: number, source } = script;
        let named = self.attachments.get(attachment).ok_or("a script names an unknown attachment")?;
        let export = self.exports.get(number).ok_or("a script names an unknown export")?;
        if named.volume != *volume || export.attachment != *attachment {
            return Err(format!("the script names volume {volume} and an export of another one"));
        }
        if export.node != node {
            return Err(format!(
                "node {node} boots through export {number}, which is for node {}",
                export.node
            ));
        }
        if named.deleted.is_some_and(|deleted| deleted < asked_at) {
            return Err(format!("attachment {attachment} was deleted before the machine asked"));
        }
        if *source != ScriptSource::LastKnown
            && let Some(newer) = self.find_newer(*number, export, asked_at)
        {
            return Err(format!(
                "export {newer} of attachment {attachment} was known before the machine asked"
            ));
        }
        if *source != ScriptSource::Confirmed && !self.has_right(node, volume, asked_at) {
            return Err(format!("node {node} had lost volume {volume} before its machine asked"));
        }
        let other = self.users.iter().find_map(|(used, users)| {
            let used_by = users.iter().find(|user| **user != node)?;
            let used = &self.attachments[used];
            (used.volume == *volume && used.deleted.is_none()).then_some(used_by)
        });
        if let Some(other) = other.filter(|_| !shared.contains(volume)) {
            return Err(format!("volume {volume} is given to node {node}, and still is at node {other}"));
        }
        if named.deleted.is_none() {
            self.users.entry(*attachment).or_default().insert(node);
        }
        Ok(())
    }

    /// A later export of the same attachment that volboot knew when the machine asked. One that was overtaken on its way to
    /// Cinder is none: no instance knows the order.
    fn find_newer(&self, number: u32, export: &KnownExport, asked_at: usize) -> Option<u32> {
        let known_at = export.answered?;
        let mut later = self.exports.range(number + 1..);
        later
            .find(|(_, later)| {
                later.attachment == export.attachment
                    && self.sent.get(&later.call).is_some_and(|sent| *sent > known_at)
                    && later.answered.is_some_and(|answered| answered < asked_at)
            })
            .map(|(number, _)| *number)
    }

    fn has_right(&self, node: Uuid, volume: &str, asked_at: usize) -> bool {
        [Usage::Target, Usage::Once, Usage::Fallback].into_iter().any(|usage| {
            match self.volumes.get(&(node, volume.to_owned(), usage)) {
                Some(Right::Granted) => true,
                Some(Right::RevokedAt(position)) => *position > asked_at,
                None => false,
            }
        })
    }
}

mod tests;
