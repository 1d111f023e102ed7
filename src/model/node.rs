//! [`Node`]: a bare-metal node, with Ironic's fields up to API 1.52.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{ConductorGroup, PowerState, Properties, ProvisionState, TraitName};

/// A node: the record that an operator made for a machine.
///
/// Few nodes have the fields that came with 1.37 and later. Their stored records omit what is unset: a list of nodes is
/// read faster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(
    missing_docs,
    reason = "the fields are Ironic's (API reference, node); only volboot's own fields are documented"
)]
pub struct Node {
    pub uuid: Uuid,
    pub created_at: Timestamp,
    #[serde(default)]
    pub updated_at: Option<Timestamp>,
    #[serde(default)]
    pub name: Option<String>,
    pub driver: String,
    #[serde(default)]
    pub driver_info: Properties,
    #[serde(default)]
    pub driver_internal_info: Properties,
    #[serde(default)]
    pub properties: Properties,
    #[serde(default)]
    pub extra: Properties,
    #[serde(default)]
    pub instance_info: Properties,
    #[serde(default)]
    pub instance_uuid: Option<Uuid>,
    /// The allocation that the node is reserved for. [`Node::allocation`] tells whether it still is.
    #[serde(default)]
    pub allocation_uuid: Option<Uuid>,
    #[serde(default)]
    pub chassis_uuid: Option<Uuid>,
    #[serde(default)]
    pub resource_class: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub traits: BTreeSet<TraitName>,
    #[serde(default)]
    pub conductor_group: ConductorGroup,
    pub storage_interface: StorageInterface,
    /// The names of the other interfaces by type (`boot`, `deploy`, …), where set. The API shows the driver's default
    /// for the rest.
    #[serde(default)]
    pub interfaces: Properties,
    pub provision_state: ProvisionState,
    #[serde(default)]
    pub target_provision_state: Option<ProvisionState>,
    #[serde(default)]
    pub provision_updated_at: Option<Timestamp>,
    /// The node was undeployed, but still has its volume targets: no boot from them until the next deployment.
    #[serde(default)]
    pub undeployed: bool,
    /// The state that the machine is being switched to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_power_state: Option<PowerState>,
    /// The host of the conductor that works on the node. Other changes are refused meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<String>,
    /// As recorded; [`Node::recorded_power_state`] also reads the nodes of earlier versions.
    #[serde(default)]
    pub power_state: Option<PowerState>,
    /// When the power state was recorded.
    #[serde(default)]
    pub power_recorded_at: Option<Timestamp>,
    #[serde(default)]
    pub maintenance: bool,
    #[serde(default)]
    pub maintenance_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub automated_clean: Option<bool>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protected: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protected_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default)]
    pub last_error: Option<String>,
}

impl Node {
    /// Whether the ProxyDHCP server may name a boot file for the machine: unless the property `netboot` is false. Some
    /// clients send each property as a text.
    pub fn allows_netboot(&self) -> bool {
        let is_false = |value: &Value| match value {
            Value::Bool(flag) => !flag,
            Value::String(text) => text.eq_ignore_ascii_case("false"),
            _ => false,
        };
        !self.properties.get("netboot").is_some_and(is_false)
    }

    /// A node right after its creation, in state `enroll`.
    pub fn new(uuid: Uuid, driver: impl Into<String>, storage: StorageInterface, now: Timestamp) -> Self {
        Self {
            uuid,
            created_at: now,
            updated_at: None,
            name: None,
            driver: driver.into(),
            driver_info: Properties::default(),
            driver_internal_info: Properties::default(),
            properties: Properties::default(),
            extra: Properties::default(),
            instance_info: Properties::default(),
            instance_uuid: None,
            allocation_uuid: None,
            chassis_uuid: None,
            resource_class: None,
            traits: BTreeSet::new(),
            conductor_group: ConductorGroup::default(),
            storage_interface: storage,
            interfaces: Properties::default(),
            provision_state: ProvisionState::Enroll,
            target_provision_state: None,
            provision_updated_at: None,
            undeployed: false,
            target_power_state: None,
            reservation: None,
            power_state: None,
            power_recorded_at: None,
            maintenance: false,
            maintenance_reason: None,
            automated_clean: None,
            protected: false,
            protected_reason: None,
            owner: None,
            description: None,
            last_error: None,
        }
    }

    /// Checks that a text may be the name of a node.
    pub fn check_name(text: &str) -> Result<(), NodeNameError> {
        if !is_logical_name(text) || text.parse::<Uuid>().is_ok() {
            return Err(NodeNameError::Invalid);
        }
        if RESERVED_NAMES.contains(&text) { Err(NodeNameError::Reserved) } else { Ok(()) }
    }

    /// The node's name, else its UUID.
    pub fn label(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.uuid.to_string())
    }

    /// The node's `capabilities`.
    pub fn capabilities(&self) -> Capabilities<'_> {
        Capabilities(self.properties.text("capabilities").unwrap_or_default())
    }
}

/// A text cannot be the name of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// The text is not a logical name, or is a UUID.
    #[error("a name has 1 to 255 letters, digits and - . _ ~, and is no UUID")]
    Invalid,
    /// The text is one of [`RESERVED_NAMES`].
    #[error("the words {} are reserved", RESERVED_NAMES.join(", "))]
    Reserved,
}

/// Whether a text is one of Ironic's logical names: 1 to 255 characters that need no escape in a URL.
pub fn is_logical_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b))
}

/// `properties.capabilities`: `key:value` pairs, separated by commas.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities<'a>(&'a str);

impl<'a> Capabilities<'a> {
    /// Whether a capability has a true value (as in Ironic's `strutils.bool_from_string`).
    pub fn is_true(self, key: &str) -> bool {
        self.get(key).is_some_and(|value| {
            ["1", "t", "true", "on", "y", "yes"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
        })
    }

    /// The value of a capability. Entries without a colon are ignored, as in Ironic.
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.0
            .split(',')
            .filter_map(|pair| pair.split_once(':'))
            .find(|(name, _)| name.trim() == key)
            .map(|(_, value)| value.trim())
    }
}

/// Path segments of the API that stand in the place of a node's name.
pub const RESERVED_NAMES: [&str; 6] =
    ["detail", "maintenance", "management", "states", "validate", "vendor_passthru"];

/// Ironic's storage interfaces: where the connections of a node's volumes come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum StorageInterface {
    /// No volumes: the node boots from its own disk.
    Noop,
    /// From the volume targets: the operator wrote the connection into each.
    External,
    /// From Cinder, at every boot.
    Cinder,
    /// An unknown name (from an import or a later version): stored and displayed, but the node's boot is refused.
    Other(String),
}

impl StorageInterface {
    /// Ironic's name for the interface.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Noop => "noop",
            Self::External => "external",
            Self::Cinder => "cinder",
            Self::Other(name) => name,
        }
    }

    /// Whether the volumes of such a node are attached through Cinder, each with an
    /// [`Attachment`](super::Attachment) on record.
    pub fn uses_attachments(&self) -> bool {
        match self {
            Self::Cinder => true,
            // The boot of a node with an unknown interface is refused.
            Self::Noop | Self::External | Self::Other(_) => false,
        }
    }
}

impl From<String> for StorageInterface {
    fn from(name: String) -> Self {
        match name.as_str() {
            "noop" => Self::Noop,
            "external" => Self::External,
            "cinder" => Self::Cinder,
            _ => Self::Other(name),
        }
    }
}

impl From<StorageInterface> for String {
    fn from(storage: StorageInterface) -> Self {
        storage.as_str().to_owned()
    }
}

impl fmt::Display for StorageInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_capabilities_like_ironic() {
        let capabilities = Capabilities("boot_mode:uefi, iscsi_boot:True,broken,x:");
        assert!(capabilities.is_true("iscsi_boot"));
        assert_eq!(capabilities.get("boot_mode"), Some("uefi"));
        assert_eq!(capabilities.get("broken"), None);
        assert!(!Capabilities("iscsi_boot:False").is_true("iscsi_boot"));
        assert!(!Capabilities("").is_true("iscsi_boot"));
    }
}
