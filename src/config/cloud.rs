//! The keys that describe a cloud: `[cinder] cloud`, `auth_url`, `username` and so on, named as in clouds.yaml.
//!
//! This module stores the values uninterpreted. [`crate::keystone`] combines them with clouds.yaml and the
//! environment, and reports errors under these key names.

use std::collections::BTreeMap;
use std::fmt;

use super::read::Section;

/// The keys. A secret has a second key, `<key>_file`: the path of a file that holds only the secret.
pub const CLOUD_KEYS: [&str; 22] = [
    "cloud",
    "auth_type",
    "auth_url",
    "username",
    "user_id",
    "password",
    "password_file",
    "user_domain_name",
    "user_domain_id",
    "project_name",
    "project_id",
    "project_domain_name",
    "project_domain_id",
    "application_credential_id",
    "application_credential_name",
    "application_credential_secret",
    "application_credential_secret_file",
    "region_name",
    "interface",
    "endpoint_override",
    "cacert",
    "verify",
];

/// The values that are set. `Debug` prints only the keys: some values are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CloudConfig(BTreeMap<&'static str, String>);

impl CloudConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        let read = |key| {
            let text = match key {
                "verify" => (!section.flag(key, true)).then(|| "false".to_owned()),
                _ => section.value(key, None, |text| {
                    let text = Some(text.to_owned()).filter(|text| !text.is_empty());
                    text.map(Some).ok_or_else(|| "expected a non-empty string".to_owned())
                }),
            };
            text.map(|text| (key, text))
        };
        Self(CLOUD_KEYS.into_iter().filter_map(read).collect())
    }

    /// The value of one of [`CLOUD_KEYS`].
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All keys that are set, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, text)| (*key, text.as_str()))
    }
}

impl fmt::Debug for CloudConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn debug_output_redacts_secrets() {
        let config = Config::parse("[cinder]\npassword = \"rabbit\"\nverify = false").expect("is valid");
        assert_eq!(config.cinder.cloud.get("password"), Some("rabbit"));
        assert_eq!(config.cinder.cloud.get("verify"), Some("false"));
        let debug = format!("{config:?}");
        assert!(debug.contains("password") && !debug.contains("rabbit"), "{debug}");
    }
}
