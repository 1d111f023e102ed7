//! Enrolment by a click: a machine that nobody knew becomes a node with its card, its name in the storage network, and
//! the volume it boots from, in one step or none.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Shared;
use super::draw::{Page, Trouble};
use super::{machine, machines};
use crate::model::{Iqn, Mac, Node, Port, SanUri, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::{Enrolment, InventoryError, Unique};
use crate::timeline::Key;

/// The authority of the initiator names that are proposed: the one that Ironic's documents use.
const AUTHORITY: &str = "iqn.2017-08.org.openstack.";

/// The driver of machines that are switched by hand (Ironic's own name for it).
const DRIVER: &str = "manual-management";

/// What is sent to enrol a machine. Fields that a browser leaves out are empty.
#[derive(Deserialize)]
pub(super) struct Sent {
    #[serde(default)]
    name: String,
    #[serde(default)]
    iqn: String,
    #[serde(default)]
    volume: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    secret: SecretString,
}

/// The form, with what is wrong with what was sent. The secret has to be given again: no page shows one.
#[derive(Debug, Default)]
pub(super) struct Form {
    pub(super) name: String,
    pub(super) iqn: String,
    pub(super) volume: String,
    pub(super) user: String,
    pub(super) faults: Vec<Fault>,
}

/// What is wrong with a field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: &'static str,
    pub(super) text: String,
}

impl Form {
    /// One to be filled in.
    pub(super) fn empty(key: Key) -> Self {
        let iqn = match key {
            Key::Mac(mac) => format!("{AUTHORITY}{}", mac.to_string().replace(':', "-")),
            Key::Address(_) => String::new(),
        };
        Self { iqn, ..Self::default() }
    }

    /// What is wrong with a field, if something is.
    pub(super) fn fault(&self, field: &str) -> Option<&str> {
        self.faults.iter().find(|fault| fault.field == field).map(|fault| fault.text.as_str())
    }
}

/// `POST /ui/machines/{machine}/enrol`
pub(super) async fn enrol(
    State(state): State<Shared>,
    Path(id): Path<String>,
    axum::Form(sent): axum::Form<Sent>,
) -> Result<Response, Trouble> {
    let key = machine::key(&id)?;
    let Key::Mac(mac) = key else {
        return Err(Trouble::not_found("Only a machine whose card is known can be enrolled."));
    };
    let faults = match meant(&sent) {
        Ok(meant) => match state.inventory.enrol(&meant.records(mac, Timestamp::now())).await {
            Ok(()) => return Ok(Redirect::to(&machines::link(key)).into_response()),
            Err(InventoryError::Duplicate(taken)) => vec![duplicate(&taken)],
            Err(InventoryError::Store(error)) => return Err(error.into()),
            Err(InventoryError::NoNode(_)) => return Err(Trouble::broken()),
        },
        Err(faults) => faults,
    };
    let Sent { name, iqn, volume, user, secret: _ } = sent;
    let form = Form { name, iqn, volume, user, faults };
    let page = machine::draw(&state, key, form).await?;
    Ok(Page(StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

/// What was meant, or all that is wrong with it.
fn meant(sent: &Sent) -> Result<Meant<'_>, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut fault = |field, text: String| faults.push(Fault { field, text });
    let name = sent.name.trim();
    if !Node::is_name(name) {
        fault("name", "A name has letters, digits, and - . _ ~, and is no UUID.".to_owned());
    }
    let initiator = sent.iqn.trim().parse::<Iqn>().map_err(|error| fault("iqn", sentence(&error))).ok();
    let volume = Source::read(sent.volume.trim());
    if volume.is_none() {
        let text = "Expected the UUID of a volume in Cinder, or a target such as \
                    iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1.";
        fault("volume", text.to_owned());
    }
    let user = sent.user.trim();
    let chap = match (user, sent.secret.expose_secret().is_empty()) {
        ("", true) => None,
        ("", false) => {
            fault("user", "The secret is whose?".to_owned());
            None
        }
        (_, true) => {
            fault("secret", "The user's secret is missing.".to_owned());
            None
        }
        (user, false) => Some((user, &sent.secret)),
    };
    if let (Some(Source::Cinder(_)), Some(_)) = (&volume, &chap) {
        fault("user", "Cinder says by itself who may log in: leave user and secret empty.".to_owned());
    }
    match (initiator, volume) {
        (Some(initiator), Some(volume)) if faults.is_empty() => Ok(Meant { name, initiator, volume, chap }),
        _ => Err(faults),
    }
}

/// A machine that is to be enrolled.
struct Meant<'a> {
    name: &'a str,
    initiator: Iqn,
    volume: Source,
    chap: Option<(&'a str, &'a SecretString)>,
}

/// Where the volume is that it boots from.
enum Source {
    /// Cinder is asked for it at each boot.
    Cinder(Uuid),
    /// Always there.
    Target(SanUri),
}

impl Source {
    fn read(text: &str) -> Option<Self> {
        text.parse().map(Self::Cinder).ok().or_else(|| text.parse().map(Self::Target).ok())
    }
}

impl Meant<'_> {
    fn records(&self, mac: Mac, now: Timestamp) -> Enrolment {
        let (storage, volume) = match &self.volume {
            Source::Cinder(volume) => (StorageInterface::Cinder, volume.to_string()),
            Source::Target(path) => (StorageInterface::External, path.target.as_str().to_owned()),
        };
        let mut node = Node::new(Uuid::new_v4(), DRIVER, storage, now);
        node.name = Some(self.name.to_owned());
        node.properties = Map::from_iter([("capabilities".to_owned(), json!("iscsi_boot:True"))]).into();
        let connector = VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", self.initiator.as_str(), now);
        let mut target = VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, &volume, now);
        target.properties = self.properties().into();
        Enrolment { port: Port::new(Uuid::new_v4(), node.uuid, mac, now), connector, target, node }
    }

    /// Those of the target, if it is not Cinder who knows.
    fn properties(&self) -> Map<String, Value> {
        let Source::Target(path) = &self.volume else { return Map::new() };
        let mut properties = path.properties();
        if let Some((user, secret)) = self.chap {
            properties.insert("auth_method".into(), json!("CHAP"));
            properties.insert("auth_username".into(), json!(user));
            properties.insert("auth_password".into(), json!(secret.expose_secret()));
        }
        properties
    }
}

/// A fault, as it stands by itself.
fn sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// Another has it already.
fn duplicate(taken: &Unique) -> Fault {
    let field = match taken {
        Unique::Connector(..) => "iqn",
        Unique::Address(_) => "machine",
        _ => "name",
    };
    Fault { field, text: format!("Another node has {taken}.") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Connection;

    fn sent(name: &str, iqn: &str, volume: &str, user: &str, secret: &str) -> Sent {
        Sent {
            name: name.into(),
            iqn: iqn.into(),
            volume: volume.into(),
            user: user.into(),
            secret: secret.to_owned().into(),
        }
    }

    const IQN: &str = "iqn.2017-08.org.openstack.web-1";
    const TARGET: &str = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1";
    const VOLUME: &str = "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";

    #[test]
    fn what_is_wrong_is_told_at_its_field_all_at_once() {
        let fields = |sent: Sent| {
            let faults = meant(&sent).err().expect("faults");
            faults.into_iter().map(|fault| fault.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(sent("", "", "", "", "")), ["name", "iqn", "volume"]);
        assert_eq!(fields(sent(VOLUME, IQN, TARGET, "", "")), ["name"]);
        assert_eq!(fields(sent("detail", IQN, "disk-1", "", "")), ["name", "volume"]);
        assert_eq!(fields(sent("web 1", IQN, TARGET, "", "secret")), ["name", "user"]);
        assert_eq!(fields(sent("web-1", IQN, TARGET, "ann", "")), ["secret"]);
        assert_eq!(fields(sent("web-1", IQN, VOLUME, "ann", "secret")), ["user"]);
    }

    fn records(sent: &Sent) -> Enrolment {
        meant(sent).expect("is right").records(Mac::new([2, 0, 0, 0, 0, 1]), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_target_becomes_a_node_that_boots_what_its_records_say() {
        let uri = "iscsi:[2001:db8::1]::3261:1f:iqn.2010-10.org.example:disk-1";
        // The space around is the browser's or the clipboard's; a secret may have one of its own.
        let records = records(&sent(" web-1 ", &format!(" {IQN}"), &format!("{uri}\n"), " ann ", " secret "));
        assert_eq!(records.node.name.as_deref(), Some("web-1"));
        assert_eq!(records.node.storage_interface, StorageInterface::External);
        assert!(records.node.capabilities().is_true("iscsi_boot") && records.port.pxe_enabled);
        assert_eq!(records.connector.connector_id, IQN);
        let connection = Connection::try_from(&records.target.properties).expect("is right");
        assert_eq!(connection.paths[0].to_string(), uri);
        let chap = connection.chap.expect("credentials");
        assert_eq!((chap.username.as_str(), chap.password.expose_secret()), ("ann", " secret "));
    }

    #[test]
    fn a_volume_of_cinder_s_is_asked_for_there() {
        let records = records(&sent("web-1", IQN, VOLUME, "", ""));
        assert_eq!(records.node.storage_interface, StorageInterface::Cinder);
        assert_eq!((records.target.volume_id.as_str(), records.target.boot_index), (VOLUME, 0));
        assert!(records.target.properties.reveal().is_empty());
    }
}
