//! `/ui/machines/{machine}/enroll`: creates the node, port, connector and volume target of an unknown machine.
//!
//! All four records are created in one transaction.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::page::{ErrorPage, Page};
use super::{SharedState, machine, machines};
use crate::model::{Iqn, Mac, Node, Port, SanUri, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::{Enrollment, InventoryError, UniqueKey};
use crate::timeline::MachineId;

/// Prefix of suggested initiator names, as in Ironic's documentation.
const IQN_PREFIX: &str = "iqn.2017-08.org.openstack.";

/// Ironic's driver for machines without remote power control.
const DRIVER: &str = "manual-management";

/// The submitted form. Browsers omit empty fields, or send them as empty text.
#[derive(Deserialize)]
pub(super) struct SubmittedForm {
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

/// The form on the page, with validation errors. Never contains the secret, so the operator enters it again.
#[derive(Debug, Default)]
pub(super) struct EnrollForm {
    pub(super) name: String,
    pub(super) iqn: String,
    pub(super) volume: String,
    pub(super) user: String,
    pub(super) errors: Vec<FieldError>,
}

/// A validation error of one field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FieldError {
    pub(super) field: &'static str,
    pub(super) text: String,
}

impl EnrollForm {
    /// A form with a suggested initiator name.
    pub(super) fn empty(id: MachineId) -> Self {
        let iqn = match id {
            MachineId::Mac(mac) => format!("{IQN_PREFIX}{}", mac.to_string().replace(':', "-")),
            MachineId::Address(_) => String::new(),
        };
        Self { iqn, ..Self::default() }
    }

    /// The first error of a field.
    pub(super) fn error(&self, field: &str) -> Option<&str> {
        self.errors.iter().find(|error| error.field == field).map(|error| error.text.as_str())
    }
}

/// `POST /ui/machines/{machine}/enroll`
pub(super) async fn submit(
    State(state): State<SharedState>,
    Path(id): Path<String>,
    axum::Form(submitted): axum::Form<SubmittedForm>,
) -> Result<Response, ErrorPage> {
    let id = machine::parse_machine_id(&id)?;
    let MachineId::Mac(mac) = id else {
        let text = "A machine can be enrolled only if its MAC address is known.";
        return Err(ErrorPage::not_found(text));
    };
    let errors = match validate(&submitted) {
        Ok(input) => match state.inventory.enroll(&input.build_records(mac, Timestamp::now())).await {
            Ok(()) => return Ok(Redirect::to(&machines::machine_link(id)).into_response()),
            Err(InventoryError::Duplicate(key)) => vec![duplicate_error(&key)],
            Err(InventoryError::Store(error)) => return Err(error.into()),
            Err(InventoryError::NodeNotFound(_)) => return Err(ErrorPage::internal()),
        },
        Err(errors) => errors,
    };
    let SubmittedForm { name, iqn, volume, user, secret: _ } = submitted;
    let form = EnrollForm { name, iqn, volume, user, errors };
    let page = machine::build_page(&state, id, form).await?;
    Ok(Page(StatusCode::UNPROCESSABLE_ENTITY, page).into_response())
}

/// Validates all fields; returns all errors at once.
fn validate(submitted: &SubmittedForm) -> Result<ValidForm<'_>, Vec<FieldError>> {
    let mut errors = Vec::new();
    let mut add_error = |field, text: String| errors.push(FieldError { field, text });
    let name = submitted.name.trim();
    if Node::check_name(name).is_err() {
        add_error(
            "name",
            "Use only letters, digits and - . _ ~ in the name. A UUID is not a name.".to_owned(),
        );
    }
    let initiator =
        submitted.iqn.trim().parse::<Iqn>().map_err(|error| add_error("iqn", to_sentence(&error))).ok();
    let volume = VolumeInput::parse(submitted.volume.trim());
    if volume.is_none() {
        let text = "Enter the UUID of a Cinder volume, or a target such as \
                    iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1.";
        add_error("volume", text.to_owned());
    }
    let user = submitted.user.trim();
    let chap = match (user, submitted.secret.expose_secret().is_empty()) {
        ("", true) => None,
        ("", false) => {
            add_error("user", "Enter the user of this secret.".to_owned());
            None
        }
        (_, true) => {
            add_error("secret", "Enter the secret of this user.".to_owned());
            None
        }
        (user, false) => Some((user, &submitted.secret)),
    };
    if let (Some(VolumeInput::Cinder(_)), Some(_)) = (&volume, &chap) {
        let text = "Leave user and secret empty: Cinder provides the credentials of its volumes.";
        add_error("user", text.to_owned());
    }
    match (initiator, volume) {
        (Some(initiator), Some(volume)) if errors.is_empty() => {
            Ok(ValidForm { name, initiator, volume, chap })
        }
        _ => Err(errors),
    }
}

/// A form without errors.
struct ValidForm<'a> {
    name: &'a str,
    initiator: Iqn,
    volume: VolumeInput,
    chap: Option<(&'a str, &'a SecretString)>,
}

/// The volume field, parsed.
enum VolumeInput {
    /// A Cinder volume, resolved at each boot.
    Cinder(Uuid),
    /// A fixed iSCSI target.
    Target(SanUri),
}

impl VolumeInput {
    fn parse(text: &str) -> Option<Self> {
        text.parse().map(Self::Cinder).ok().or_else(|| text.parse().map(Self::Target).ok())
    }
}

impl ValidForm<'_> {
    fn build_records(&self, mac: Mac, now: Timestamp) -> Enrollment {
        let (storage, volume) = match &self.volume {
            VolumeInput::Cinder(volume) => (StorageInterface::Cinder, volume.to_string()),
            VolumeInput::Target(path) => (StorageInterface::External, path.target.as_str().to_owned()),
        };
        let mut node = Node::new(Uuid::new_v4(), DRIVER, storage, now);
        node.name = Some(self.name.to_owned());
        node.properties = Map::from_iter([("capabilities".to_owned(), json!("iscsi_boot:True"))]).into();
        let connector = VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", self.initiator.as_str(), now);
        let mut target = VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, &volume, now);
        target.properties = self.target_properties().into();
        Enrollment { port: Port::new(Uuid::new_v4(), node.uuid, mac, now), connector, target, node }
    }

    /// Properties of the volume target; empty for a Cinder volume.
    fn target_properties(&self) -> Map<String, Value> {
        let VolumeInput::Target(path) = &self.volume else { return Map::new() };
        let mut properties = path.properties();
        if let Some((user, secret)) = self.chap {
            properties.insert("auth_method".into(), json!("CHAP"));
            properties.insert("auth_username".into(), json!(user));
            properties.insert("auth_password".into(), json!(secret.expose_secret()));
        }
        properties
    }
}

/// Formats an error as a sentence: capitalized, with a full stop.
fn to_sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

fn duplicate_error(key: &UniqueKey) -> FieldError {
    let field = match key {
        UniqueKey::Connector(..) => "iqn",
        UniqueKey::Address(_) => "machine",
        _ => "name",
    };
    FieldError { field, text: format!("Another node has {key}.") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Connection;

    fn submitted(name: &str, iqn: &str, volume: &str, user: &str, secret: &str) -> SubmittedForm {
        SubmittedForm {
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
    fn all_fields_are_validated_at_once() {
        let fields = |form: SubmittedForm| {
            let errors = validate(&form).err().expect("errors");
            errors.into_iter().map(|error| error.field).collect::<Vec<_>>()
        };
        assert_eq!(fields(submitted("", "", "", "", "")), ["name", "iqn", "volume"]);
        assert_eq!(fields(submitted(VOLUME, IQN, TARGET, "", "")), ["name"]);
        assert_eq!(fields(submitted("detail", IQN, "disk-1", "", "")), ["name", "volume"]);
        assert_eq!(fields(submitted("web 1", IQN, TARGET, "", "secret")), ["name", "user"]);
        assert_eq!(fields(submitted("web-1", IQN, TARGET, "ann", "")), ["secret"]);
        assert_eq!(fields(submitted("web-1", IQN, VOLUME, "ann", "secret")), ["user"]);
    }

    fn build_records(form: &SubmittedForm) -> Enrollment {
        validate(form).expect("valid form").build_records(Mac::new([2, 0, 0, 0, 0, 1]), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_target_uri_creates_a_node_with_external_storage() {
        let uri = "iscsi:[2001:db8::1]::3261:1f:iqn.2010-10.org.example:disk-1";
        // Fields are trimmed, because pasted text often has spaces around it.
        // The secret is not: it may begin or end with a space.
        let records = build_records(&submitted(
            " web-1 ",
            &format!(" {IQN}"),
            &format!("{uri}\n"),
            " ann ",
            " secret ",
        ));
        assert_eq!(records.node.name.as_deref(), Some("web-1"));
        assert_eq!(records.node.storage_interface, StorageInterface::External);
        assert!(records.node.capabilities().is_true("iscsi_boot") && records.port.pxe_enabled);
        assert_eq!(records.connector.connector_id, IQN);
        let connection = Connection::try_from(&records.target.properties).expect("valid properties");
        assert_eq!(connection.paths[0].to_string(), uri);
        let chap = connection.chap.expect("credentials");
        assert_eq!((chap.username.as_str(), chap.password.expose_secret()), ("ann", " secret "));
    }

    #[test]
    fn a_volume_uuid_creates_a_node_with_cinder_storage() {
        let records = build_records(&submitted("web-1", IQN, VOLUME, "", ""));
        assert_eq!(records.node.storage_interface, StorageInterface::Cinder);
        assert_eq!((records.target.volume_id.as_str(), records.target.boot_index), (VOLUME, 0));
        assert!(records.target.properties.reveal().is_empty());
    }
}
