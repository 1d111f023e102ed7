//! The keys with which a cloud is named: `[cinder] cloud`, `auth_url`, `username` and so on, as clouds.yaml has them.
//!
//! They are kept as they were said. What they mean, together with clouds.yaml and the environment, is found out where
//! the cloud is spoken to ([`crate::keystone`]'s side); what is wrong with them is told under the names given here.

use std::collections::BTreeMap;
use std::fmt;

use super::read::Section;

/// The keys. Those of secrets can be said as `<key>_file` as well: a file that holds the secret alone.
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

/// What was said about a cloud. Shows the keys only: some of the values are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CloudConfig(BTreeMap<&'static str, String>);

impl CloudConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        let said = |key| {
            let text = match key {
                "verify" => (!section.flag(key, true)).then(|| "false".to_owned()),
                _ => section.value(key, None, |text| {
                    let text = Some(text.to_owned()).filter(|text| !text.is_empty());
                    text.map(Some).ok_or_else(|| "expected a text that is not empty".to_owned())
                }),
            };
            text.map(|text| (key, text))
        };
        Self(CLOUD_KEYS.into_iter().filter_map(said).collect())
    }

    /// What was said for one of [`CLOUD_KEYS`].
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// All that was said.
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
    fn a_secret_is_not_shown() {
        let config = Config::parse("[cinder]\npassword = \"rabbit\"\nverify = false").expect("is right");
        assert_eq!(config.cinder.cloud.get("password"), Some("rabbit"));
        assert_eq!(config.cinder.cloud.get("verify"), Some("false"));
        let shown = format!("{config:?}");
        assert!(shown.contains("password") && !shown.contains("rabbit"), "{shown}");
    }
}
