//! [`VirtualCinder`]: volumes and attachments by the rules of a real Cinder, without network and time.
//!
//! A connection names the attachment, the number of its export and the node, so that a boot script shows them. Each export
//! has a connection of its own. A deletion takes two steps, as it waits for a backend.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::history::Effect;

/// A call, without its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call {
    Ping,
    Volume(String),
    List(String),
    Show(String),
    Reserve(String),
    Export(String, Uuid),
    Complete(String),
    Delete(String),
}

/// A response, and what the call changed.
#[derive(Debug)]
pub(super) struct CinderReply {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) effect: Option<Effect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Reserved,
    Attaching,
    Attached,
    Detaching,
}

#[derive(Debug)]
struct VirtualAttachment {
    volume: String,
    status: Status,
    /// The connection of the last export.
    connection: Option<Value>,
    host: Option<Uuid>,
}

/// An attachment, as the end of a run is judged by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SeenAttachment {
    pub(super) id: String,
    pub(super) volume: String,
    pub(super) status: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct VirtualCinder {
    /// Whether each volume is multi-attachable.
    volumes: BTreeMap<String, bool>,
    attachments: BTreeMap<u32, VirtualAttachment>,
    reserved: u32,
    exported: u32,
}

const IQN: &str = "iqn.2010-10.org.openstack";

/// The attachment and the export that the name of a target stands for.
pub(super) fn parse_target(name: &str) -> Option<(u32, u32)> {
    let (attachment, export) = name.strip_prefix(IQN)?.strip_prefix(':')?.split_once('.')?;
    Some((attachment.parse().ok()?, export.parse().ok()?))
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Attaching => "attaching",
            Self::Attached => "attached",
            Self::Detaching => "detaching",
        }
    }
}

impl CinderReply {
    fn new(status: u16, body: Value) -> Self {
        Self { status, body, effect: None }
    }

    fn not_found(what: &str) -> Self {
        Self::new(
            404,
            json!({"itemNotFound": {"code": 404, "message": format!("{what} could not be found.")}}),
        )
    }

    pub(super) fn failure() -> Self {
        Self::new(500, json!({"computeFault": {"code": 500, "message": "The server has erred."}}))
    }

    pub(super) fn unavailable() -> Self {
        Self::new(503, json!({}))
    }

    pub(super) fn conflict() -> Self {
        Self::new(409, json!({"conflictingRequest": {"code": 409, "message": "The volume is busy."}}))
    }
}

impl VirtualCinder {
    pub(super) fn add_volume(&mut self, id: &str, multiattach: bool) {
        self.volumes.insert(id.to_owned(), multiattach);
    }

    pub(super) fn attachments(&self) -> Vec<SeenAttachment> {
        let seen = |(number, attachment): (&u32, &VirtualAttachment)| SeenAttachment {
            id: name(*number),
            volume: attachment.volume.clone(),
            status: attachment.status.as_str(),
        };
        self.attachments.iter().map(seen).collect()
    }

    /// The backend begins to take a volume from the attachment's host.
    pub(super) fn begin_deletion(&mut self, id: &str) {
        if let Some(attachment) = number(id).and_then(|number| self.attachments.get_mut(&number)) {
            attachment.status = Status::Detaching;
        }
    }

    /// Performs a call; for a deletion, its end.
    pub(super) fn perform(&mut self, call: &Call) -> CinderReply {
        match call {
            Call::Ping => CinderReply::new(200, json!({"volumes": []})),
            Call::Volume(id) => self.show_volume(id),
            Call::List(volume) => {
                let of_volume =
                    self.attachments.iter().filter(|(_, attachment)| attachment.volume == *volume);
                let list: Vec<_> = of_volume.map(|(number, attachment)| attachment.show(*number)).collect();
                CinderReply::new(200, json!({"attachments": list}))
            }
            Call::Show(id) => match self.find(id) {
                Some((number, attachment)) => {
                    CinderReply::new(200, json!({"attachment": attachment.show(number)}))
                }
                None => CinderReply::not_found("Volume attachment"),
            },
            Call::Reserve(volume) => self.reserve(volume),
            Call::Export(id, host) => self.export(id, *host),
            Call::Complete(id) => {
                let Some((number, attachment)) = self.find(id) else {
                    return CinderReply::not_found("Volume attachment");
                };
                attachment.status = Status::Attached;
                let effect = Some(Effect::Completed { attachment: number });
                CinderReply { effect, ..CinderReply::new(204, Value::Null) }
            }
            Call::Delete(id) => {
                let removed = number(id).filter(|number| self.attachments.remove(number).is_some());
                match removed {
                    Some(attachment) => CinderReply {
                        effect: Some(Effect::Deleted { attachment }),
                        ..CinderReply::new(200, json!({"attachments": []}))
                    },
                    None => CinderReply::not_found("Volume attachment"),
                }
            }
        }
    }

    fn find(&mut self, id: &str) -> Option<(u32, &mut VirtualAttachment)> {
        let number = number(id)?;
        Some((number, self.attachments.get_mut(&number)?))
    }

    fn of_volume<'a>(&'a self, volume: &'a str) -> impl Iterator<Item = (&'a u32, &'a VirtualAttachment)> {
        self.attachments.iter().filter(move |(_, attachment)| attachment.volume == volume)
    }

    fn status(&self, volume: &str) -> &'static str {
        let has = |status| self.of_volume(volume).any(|(_, attachment)| attachment.status == status);
        [Status::Attaching, Status::Detaching, Status::Attached, Status::Reserved]
            .into_iter()
            .find(|status| has(*status))
            .map_or("available", |status| if status == Status::Attached { "in-use" } else { status.as_str() })
    }

    fn show_volume(&self, id: &str) -> CinderReply {
        let Some(multiattach) = self.volumes.get(id) else { return CinderReply::not_found("Volume") };
        let attached = self.of_volume(id).filter(|(_, attachment)| attachment.status == Status::Attached);
        let holders: Vec<_> = attached
            .map(|(number, attachment)| {
                let host = attachment.host.map(|host| host.to_string());
                json!({"attachment_id": name(*number), "server_id": null, "host_name": host, "device": "na"})
            })
            .collect();
        CinderReply::new(
            200,
            json!({"volume": {
                "id": id, "status": self.status(id), "multiattach": multiattach, "encrypted": false,
                "volume_type": "disks", "attachments": holders,
            }}),
        )
    }

    fn reserve(&mut self, volume: &str) -> CinderReply {
        let Some(multiattach) = self.volumes.get(volume) else { return CinderReply::not_found("Volume") };
        let status = self.status(volume);
        if status != "available" && (!multiattach || status == "detaching") {
            let message = format!("Invalid volume: the current status is {status}.");
            return CinderReply::new(400, json!({"badRequest": {"code": 400, "message": message}}));
        }
        self.reserved += 1;
        let attachment = VirtualAttachment {
            volume: volume.into(),
            status: Status::Reserved,
            connection: None,
            host: None,
        };
        let body = json!({"attachment": attachment.show(self.reserved)});
        self.attachments.insert(self.reserved, attachment);
        let effect = Some(Effect::Reserved { volume: volume.to_owned(), attachment: self.reserved });
        CinderReply { effect, ..CinderReply::new(200, body) }
    }

    fn export(&mut self, id: &str, node: Uuid) -> CinderReply {
        let export = self.exported + 1;
        let Some((attachment, exported)) = self.find(id) else {
            return CinderReply::not_found("Volume attachment");
        };
        exported.status = Status::Attaching;
        exported.host = Some(node);
        exported.connection = Some(json!({
            "driver_volume_type": "iscsi", "target_portal": "192.0.2.1:3260", "target_lun": 1, "encrypted": false,
            "target_iqn": format!("{IQN}:{attachment}.{export}"),
        }));
        let body = json!({"attachment": exported.show(attachment)});
        self.exported = export;
        let effect = Some(Effect::Exported { attachment, export, node });
        CinderReply { effect, ..CinderReply::new(200, body) }
    }
}

impl VirtualAttachment {
    fn show(&self, number: u32) -> Value {
        json!({
            "id": name(number), "status": self.status.as_str(), "instance": null, "volume_id": self.volume,
            "connection_info": self.connection,
        })
    }
}

/// The id of an attachment.
fn name(number: u32) -> String {
    format!("attachment-{number}")
}

fn number(id: &str) -> Option<u32> {
    id.strip_prefix("attachment-")?.parse().ok()
}
