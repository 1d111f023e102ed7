//! [`InstanceName`] and [`Announcement`]: one of several volboot processes on a shared store.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ConductorGroup;

/// The most characters of a name: those of a Linux host name.
const MAX_LENGTH: usize = 64;

/// Name of an instance, unique in its cluster. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct InstanceName(Arc<str>);

/// A text is no name of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of an instance has 1 to {MAX_LENGTH} letters, digits and _ - .")]
pub struct InstanceNameError;

impl InstanceName {
    /// The name of a host, as an instance. Characters that names of instances lack become hyphens.
    pub fn of_host(host: &str) -> Self {
        let name: String =
            host.chars().take(MAX_LENGTH).map(|c| if is_valid_char(c) { c } else { '-' }).collect();
        Self(if name.is_empty() { "localhost".into() } else { name.into() })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_valid_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')
}

impl FromStr for InstanceName {
    type Err = InstanceNameError;

    fn from_str(text: &str) -> Result<Self, InstanceNameError> {
        let is_valid = (1..=MAX_LENGTH).contains(&text.len()) && text.chars().all(is_valid_char);
        if is_valid { Ok(Self(text.into())) } else { Err(InstanceNameError) }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for InstanceName {
    type Error = InstanceNameError;

    fn try_from(text: String) -> Result<Self, InstanceNameError> {
        text.parse()
    }
}

/// The facts that an instance announces to the others. It holds no secrets.
///
/// A field that another version lacks has its default, so instances of different versions read each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Version of volboot.
    #[serde(default)]
    pub version: String,
    /// Start of the process, by its own clock.
    #[serde(default)]
    pub started_at: Timestamp,
    /// Base URL of the cluster listener; absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Group of the conductor.
    #[serde(default)]
    pub group: ConductorGroup,
    /// Boot requests that wait for Cinder.
    #[serde(default)]
    pub queue_length: u64,
    /// Fingerprint of each configuration key whose value must be the same on all instances.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Fingerprint of each iPXE binary.
    #[serde(default)]
    pub images: BTreeMap<String, String>,
}

impl Announcement {
    /// What differs between two instances and must not, as phrases.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        // A key of one side only belongs to another version.
        let keys = self
            .config
            .iter()
            .filter(|(key, value)| other.config.get(key.as_str()).is_some_and(|theirs| theirs != *value));
        let mut differences: Vec<String> = keys.map(|(key, _)| format!("configuration key {key}")).collect();
        let names: std::collections::BTreeSet<_> = self.images.keys().chain(other.images.keys()).collect();
        let binaries = names.into_iter().filter(|name| self.images.get(*name) != other.images.get(*name));
        differences.extend(binaries.map(|name| format!("iPXE binary {name}")));
        if self.version != other.version {
            differences.push("version of volboot".to_owned());
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_host_names() {
        let name: InstanceName = "boot-1.example.org".parse().expect("a name");
        assert_eq!(name.as_str(), "boot-1.example.org");
        for invalid in ["", "a b", "a/b", "a\n", "böot", &"x".repeat(65)] {
            assert_eq!(invalid.parse::<InstanceName>(), Err(InstanceNameError), "{invalid}");
        }
        for (host, expected) in [("böot 1", "b-ot-1"), ("", "localhost"), (&"x".repeat(70), &"x".repeat(64))]
        {
            assert_eq!(InstanceName::of_host(host).as_str(), expected);
        }
    }

    #[test]
    fn differences_name_the_key_and_the_binary() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let announcement = |config: &[(&str, &str)], images: &[(&str, &str)]| Announcement {
            config: map(config),
            images: map(images),
            ..serde_json::from_str("{}").expect("every field has a default")
        };
        let one =
            announcement(&[("boot.tries", "a"), ("http.url", "b"), ("new.key", "c")], &[("x.efi", "1")]);
        let other =
            announcement(&[("boot.tries", "z"), ("http.url", "b")], &[("x.efi", "2"), ("y.kpxe", "3")]);
        let expected = ["configuration key boot.tries", "iPXE binary x.efi", "iPXE binary y.kpxe"];
        assert_eq!(one.differences(&other), expected);
        assert_eq!(one.differences(&one), Vec::<String>::new());
    }
}
