//! [`TraitName`]: a capability of a node, by which schedulers choose nodes.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Node;

/// The maximum number of a node's traits, as in Ironic and Placement.
pub const MAX_TRAITS: usize = 50;

/// The prefix of names that operators choose.
const CUSTOM_PREFIX: &str = "CUSTOM_";
/// The maximum length of a name.
const MAX_LENGTH: usize = 255;
/// OpenStack's standard names, one a line: the list of os-traits 3.9.0.
const STANDARD: &str = include_str!("standard_traits.txt");

/// The name of a trait: a standard name such as `HW_CPU_X86_VMX`, or `CUSTOM_` and a name of the operator's choice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraitName(String);

/// A text is no name of a trait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a trait is one of the standard traits (os-traits), or {CUSTOM_PREFIX} and upper-case letters, digits and \
     underscores, {MAX_LENGTH} characters at most"
)]
pub struct TraitNameError;

impl TraitName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TraitName {
    type Err = TraitNameError;

    fn from_str(text: &str) -> Result<Self, TraitNameError> {
        let is_custom = text.strip_prefix(CUSTOM_PREFIX).is_some_and(|name| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        });
        let is_valid = text.len() <= MAX_LENGTH && (is_custom || STANDARD.lines().any(|name| name == text));
        if is_valid { Ok(Self(text.to_owned())) } else { Err(TraitNameError) }
    }
}

impl Borrow<str> for TraitName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The traits in a node's `instance_info` are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceTraitsError {
    /// `instance_info/traits` is no list of strings.
    #[error("Error parsing traits from Node {0} instance_info field. A list of strings is expected.")]
    Malformed(Uuid),
    /// The node lacks traits.
    #[error(
        "Cannot specify instance traits that are not also set on the node. Node {node} is missing traits {}",
        .missing.join(", ")
    )]
    Missing {
        /// The node.
        node: Uuid,
        /// The traits that the node lacks.
        missing: Vec<String>,
    },
}

impl Node {
    /// Checks that the node has the traits that its instance requests in `instance_info/traits`.
    pub fn check_instance_traits(&self) -> Result<(), InstanceTraitsError> {
        let malformed = || InstanceTraitsError::Malformed(self.uuid);
        let requested: BTreeSet<&str> = match self.instance_info.get("traits") {
            None => return Ok(()),
            Some(Value::Array(names)) => {
                names.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(malformed)?
            }
            Some(_) => return Err(malformed()),
        };
        let missing = requested.into_iter().filter(|name| !self.traits.contains(*name));
        let missing: Vec<_> = missing.map(str::to_owned).collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(InstanceTraitsError::Missing { node: self.uuid, missing })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::model::StorageInterface;

    #[test]
    fn a_trait_is_standard_or_custom() {
        let longest = format!("CUSTOM_{}", "X".repeat(248));
        for name in ["HW_CPU_X86_VMX", "STORAGE_DISK_SSD", "CUSTOM_1", "CUSTOM_A_B", "CUSTOM__", &longest] {
            assert_eq!(name.parse::<TraitName>().as_ref().map(TraitName::as_str), Ok(name));
        }
        let too_long = format!("{longest}X");
        for text in
            ["", "CUSTOM_", "CUSTOM_a", "CUSTOM_A-B", "CUSTOM_Ä", "custom_A", "HW_NONE", "A\nB", &too_long]
        {
            assert_eq!(text.parse::<TraitName>(), Err(TraitNameError), "{text}");
        }
    }

    #[test]
    fn an_instance_requests_traits_of_its_node() {
        let mut node = Node::new(Uuid::nil(), "x", StorageInterface::Noop, Timestamp::UNIX_EPOCH);
        node.traits = ["CUSTOM_A", "CUSTOM_B"].map(|name| TraitName(name.into())).into();
        let mut check = |info| {
            node.instance_info = serde_json::from_value(info).expect("an object");
            node.check_instance_traits()
        };
        for valid in
            [json!({}), json!({"traits": null}), json!({"traits": []}), json!({"traits": ["CUSTOM_B"]})]
        {
            assert_eq!(check(valid.clone()), Ok(()), "{valid}");
        }
        for malformed in [json!({"traits": "CUSTOM_A"}), json!({"traits": [1]}), json!({"traits": {"a": 1}})]
        {
            assert_eq!(check(malformed), Err(InstanceTraitsError::Malformed(Uuid::nil())));
        }
        let missing = vec!["CUSTOM_C".to_owned(), "HW_X".to_owned()];
        assert_eq!(
            check(json!({"traits": ["HW_X", "CUSTOM_A", "CUSTOM_C", "HW_X"]})),
            Err(InstanceTraitsError::Missing { node: Uuid::nil(), missing })
        );
    }

    #[test]
    fn the_standard_traits_are_sorted_and_complete() {
        let names: Vec<_> = STANDARD.lines().collect();
        assert_eq!(names.len(), 377);
        assert!(names.is_sorted());
    }
}
