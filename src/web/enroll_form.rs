//! [`EnrollForm`]: the form that enrolls an unknown machine, with the errors of its fields.

use secrecy::SecretString;
use serde::Deserialize;

use super::format::to_sentence;
use crate::model::{Mac, NodeNameError, RESERVED_NAMES};
use crate::operator::{EnrollmentRequest, Refusal, VolumeText};
use crate::store::UniqueKey;
use crate::timeline::MachineId;

/// Prefix of suggested initiator names, as in Ironic's documentation.
const IQN_PREFIX: &str = "iqn.2017-08.org.openstack.";

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

impl SubmittedForm {
    /// The enrollment of the machine with this MAC address. Fields are trimmed, because pasted text often has spaces
    /// around it. The secret is not: it may begin or end with a space.
    pub(super) fn to_request(&self, mac: Mac) -> EnrollmentRequest<'_> {
        EnrollmentRequest {
            name: self.name.trim(),
            mac,
            iqn: self.iqn.trim(),
            volume: VolumeText::from_either(self.volume.trim()),
            chap_user: self.user.trim(),
            chap_secret: self.secret.clone(),
            driver: None,
        }
    }
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

    /// The submitted form again, with the reasons why its values are refused.
    pub(super) fn refused(submitted: SubmittedForm, refusals: &[Refusal]) -> Self {
        let SubmittedForm { name, iqn, volume, user, secret: _ } = submitted;
        Self { name, iqn, volume, user, errors: refusals.iter().map(FieldError::new).collect() }
    }

    /// The first error of a field.
    pub(super) fn error(&self, field: &str) -> Option<&str> {
        self.errors.iter().find(|error| error.field == field).map(|error| error.text.as_str())
    }
}

impl FieldError {
    pub(super) fn new(refusal: &Refusal) -> Self {
        let (field, text) = match refusal {
            Refusal::Name(NodeNameError::Invalid) => {
                ("name", "Use only letters, digits and - . _ ~ in the name. A UUID is not a name.".to_owned())
            }
            Refusal::Name(NodeNameError::Reserved) => {
                ("name", format!("Use another name. Reserved words are: {}.", RESERVED_NAMES.join(", ")))
            }
            Refusal::Iqn(error) => ("iqn", to_sentence(error)),
            Refusal::VolumeId | Refusal::TargetUri => {
                let text = "Enter the UUID of a Cinder volume, or a target such as \
                            iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1.";
                ("volume", text.to_owned())
            }
            Refusal::MissingChapUser => ("user", "Enter the user of this secret.".to_owned()),
            Refusal::MissingChapSecret => ("secret", "Enter the secret of this user.".to_owned()),
            Refusal::ChapForCinder => {
                let text = "Leave user and secret empty: Cinder provides the credentials of its volumes.";
                ("user", text.to_owned())
            }
            // The kind of volume decides on the storage interface.
            Refusal::Interface(error) => ("volume", to_sentence(error)),
            Refusal::VolumeInUse(user) => ("volume", to_sentence(user)),
            Refusal::Duplicate(key) => (duplicate_field(key), format!("Another node has {key}.")),
        };
        Self { field, text }
    }
}

/// The field with the value of a unique key.
fn duplicate_field(key: &UniqueKey) -> &'static str {
    match key {
        UniqueKey::Connector(..) => "iqn",
        UniqueKey::Address(_) => "machine",
        // The new node has no value for the others, or an unused UUID.
        UniqueKey::NodeName(_)
        | UniqueKey::Uuid(..)
        | UniqueKey::Instance(_)
        | UniqueKey::PortGroupName(_)
        | UniqueKey::PortGroupAddress(_)
        | UniqueKey::BootIndex(..)
        | UniqueKey::AllocationName(_)
        | UniqueKey::BootOnceNode(_) => "name",
    }
}
