//! [`Conductor`]: a service that manages nodes, in Ironic's terms. Each volboot process is one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{EnabledHardware, Node};

/// The maximum length of a group's name, as in Ironic.
const MAX_LENGTH: usize = 255;

/// A conductor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conductor {
    /// The name of the conductor's host.
    pub hostname: String,
    /// The group that the conductor belongs to.
    pub group: ConductorGroup,
    /// The drivers and interfaces that the configuration enables.
    pub hardware: EnabledHardware,
}

impl Conductor {
    /// Whether the conductor manages a node: it has the node's group and driver.
    pub fn manages(&self, node: &Node) -> bool {
        node.conductor_group == self.group && self.hardware.find(&node.driver).is_some()
    }
}

/// A group of conductors and nodes: a conductor manages the nodes of its own group. The default group has no name.
/// Names are case-insensitive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConductorGroup(String);

/// A text is no name of a conductor group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a conductor group has at most {MAX_LENGTH} letters, digits and _ - .")]
pub struct ConductorGroupError;

impl ConductorGroup {
    /// The name in lower case; empty for the default group.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ConductorGroup {
    type Err = ConductorGroupError;

    fn from_str(text: &str) -> Result<Self, ConductorGroupError> {
        let is_valid = text.len() <= MAX_LENGTH
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        if is_valid { Ok(Self(text.to_ascii_lowercase())) } else { Err(ConductorGroupError) }
    }
}

impl fmt::Display for ConductorGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::StorageInterface;

    fn group(text: &str) -> ConductorGroup {
        text.parse().expect("a group")
    }

    #[test]
    fn groups_are_compared_without_case() {
        assert_eq!(group("Rack-1.A_b").as_str(), "rack-1.a_b");
        assert_eq!(group(""), ConductorGroup::default());
        for invalid in ["rack 1", "räck", "a/b", "a\n", &"x".repeat(256)] {
            assert_eq!(invalid.parse::<ConductorGroup>(), Err(ConductorGroupError), "{invalid}");
        }
    }

    #[test]
    fn a_conductor_manages_the_nodes_of_its_group_and_drivers() {
        let node = |name: &str, driver| Node {
            conductor_group: group(name),
            ..Node::new(Uuid::nil(), driver, StorageInterface::Noop, Timestamp::UNIX_EPOCH)
        };
        let conductor = Conductor {
            hostname: "boot-1".into(),
            group: group("rack1"),
            hardware: EnabledHardware::default(),
        };
        assert!(conductor.manages(&node("RACK1", "manual-management")));
        assert!(!conductor.manages(&node("", "manual-management")));
        assert!(!conductor.manages(&node("rack1", "ipmi")));
    }
}
