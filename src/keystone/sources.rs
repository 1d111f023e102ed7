//! [`CloudSource`]: the settings of a cloud from one origin: the configuration, clouds.yaml, or `OS_*` variables.
//!
//! Each origin has its own name for a setting. An error message uses the name of the setting's origin.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use crate::config::{CloudConfig, Diagnostic};

/// The environment of the process: variables, and the directories of OpenStack's files.
#[derive(Clone, Default)]
pub struct Environment {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// The directories that are searched for clouds.yaml and its companions, in this order.
    pub directories: Vec<PathBuf>,
    /// The home directory, for `~`.
    pub home: Option<PathBuf>,
}

impl Environment {
    /// The environment of this process, with openstacksdk's directories.
    pub fn from_process() -> Self {
        let home = env::home_dir();
        let config = env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
        let user = config.or_else(|| home.as_ref().map(|home| home.join(".config")));
        let directories = [Some(".".into()), user.map(|user| user.join("openstack"))];
        Self {
            variables: env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .filter(|(name, _)| name.starts_with("OS_"))
                .collect(),
            directories: directories.into_iter().flatten().chain(["/etc/openstack".into()]).collect(),
            home,
        }
    }

    /// The value of a variable; `None` if it is unset or empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The origin of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A table of volboot's configuration.
    Configuration(&'static str),
    /// A cloud of clouds.yaml.
    File {
        /// The file.
        path: PathBuf,
        /// The name of the cloud.
        cloud: String,
        /// The file and key of each setting: settings also come from the companions of clouds.yaml.
        places: BTreeMap<&'static str, String>,
    },
    /// `OS_*` variables.
    Environment,
}

/// The settings from one origin, under the keys of [`crate::config::CLOUD_KEYS`]. clouds.yaml adds keys that the
/// configuration lacks: `domain_*` and `default_domain*`.
pub(super) struct CloudSource {
    pub(super) origin: Origin,
    pub(super) values: BTreeMap<&'static str, String>,
}

/// The settings in `auth` of clouds.yaml, each with its environment variables. The first variable that is set counts.
pub(super) const AUTH_SETTINGS: [(&str, &[&str]); 18] = [
    ("auth_url", &["OS_AUTH_URL"]),
    ("username", &["OS_USERNAME", "OS_USER_NAME"]),
    ("user_id", &["OS_USER_ID"]),
    ("password", &["OS_PASSWORD"]),
    ("user_domain_name", &["OS_USER_DOMAIN_NAME"]),
    ("user_domain_id", &["OS_USER_DOMAIN_ID"]),
    ("project_name", &["OS_PROJECT_NAME", "OS_TENANT_NAME"]),
    ("project_id", &["OS_PROJECT_ID", "OS_TENANT_ID"]),
    ("project_domain_name", &["OS_PROJECT_DOMAIN_NAME"]),
    ("project_domain_id", &["OS_PROJECT_DOMAIN_ID"]),
    ("domain_name", &[]),
    ("domain_id", &[]),
    ("default_domain", &["OS_DEFAULT_DOMAIN"]),
    ("default_domain_id", &["OS_DEFAULT_DOMAIN_ID"]),
    ("default_domain_name", &["OS_DEFAULT_DOMAIN_NAME"]),
    ("application_credential_id", &["OS_APPLICATION_CREDENTIAL_ID"]),
    ("application_credential_name", &["OS_APPLICATION_CREDENTIAL_NAME"]),
    ("application_credential_secret", &["OS_APPLICATION_CREDENTIAL_SECRET"]),
];
/// The settings outside of `auth`, except for `verify`: its variable `OS_INSECURE` says the opposite.
const OTHER_SETTINGS: [(&str, &[&str]); 5] = [
    ("auth_type", &["OS_AUTH_TYPE", "OS_AUTH_PLUGIN"]),
    ("region_name", &["OS_REGION_NAME"]),
    ("interface", &["OS_INTERFACE", "OS_ENDPOINT_TYPE"]),
    (
        "endpoint_override",
        &["OS_BLOCK_STORAGE_ENDPOINT_OVERRIDE", "OS_VOLUME_ENDPOINT_OVERRIDE", "OS_ENDPOINT"],
    ),
    ("cacert", &["OS_CACERT"]),
];

/// Settings of openstacksdk and its kin that volboot refuses: without them, the cloud would see another client.
pub(super) const UNSUPPORTED_SETTINGS: [(&str, &[&str]); 8] = [
    ("system_scope", &["OS_SYSTEM_SCOPE"]),
    ("trust_id", &["OS_TRUST_ID"]),
    ("cert", &["OS_CERT"]),
    ("key", &["OS_KEY"]),
    ("proxy", &[]),
    ("proxies", &[]),
    ("http_proxy", &[]),
    ("https_proxy", &[]),
];
/// The values of `auth_type` for a Cinder without Keystone. openstacksdk reads `None` too.
pub(super) const WITHOUT_KEYSTONE: [&str; 3] = ["none", "noauth", "None"];

/// The keys that identify the user. If one of them is set, the environment supplies secrets only.
const IDENTITY_KEYS: [&str; 6] = [
    "auth_type",
    "auth_url",
    "username",
    "user_id",
    "application_credential_id",
    "application_credential_name",
];
const SECRET_KEYS: [&str; 2] = ["password", "application_credential_secret"];

impl CloudSource {
    /// The settings in a table of the configuration.
    pub(super) fn from_configuration(table: &'static str, config: &CloudConfig) -> Self {
        let values = config.iter().map(|(key, text)| (key, text.to_owned())).collect();
        Self { origin: Origin::Configuration(table), values }
    }

    /// The settings in the environment; with `secrets_only`, no others than secrets.
    pub(super) fn from_environment(environment: &Environment, secrets_only: bool) -> Self {
        let settings = AUTH_SETTINGS.iter().chain(&OTHER_SETTINGS).chain(&UNSUPPORTED_SETTINGS);
        let set = settings.filter_map(|(key, names)| {
            let value = names.iter().find_map(|name| environment.variable(name))?;
            Some((*key, value.to_owned()))
        });
        let mut values: BTreeMap<_, _> =
            set.filter(|(key, _)| !secrets_only || SECRET_KEYS.contains(key)).collect();
        let insecure = environment.variable("OS_INSECURE").map(str::to_ascii_lowercase);
        if !secrets_only && insecure.is_some_and(|text| ["1", "true", "yes", "on"].contains(&&*text)) {
            values.insert("verify", "false".into());
        }
        Self { origin: Origin::Environment, values }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Whether it has one of [`IDENTITY_KEYS`].
    pub(super) fn identifies_user(&self) -> bool {
        IDENTITY_KEYS.iter().any(|key| self.values.contains_key(key))
    }

    /// The name of a key in this origin.
    pub(super) fn key_name(&self, key: &str) -> String {
        match &self.origin {
            Origin::Configuration(table) => format!("{table}.{key}"),
            Origin::File { places, .. } if places.contains_key(key) => places[key].clone(),
            Origin::File { path, cloud, .. } => {
                let is_auth = AUTH_SETTINGS.iter().any(|(name, _)| *name == key);
                let auth = if is_auth { "auth." } else { "" };
                format!("{}: clouds.{cloud}.{auth}{key}", path.display())
            }
            Origin::Environment => {
                let mut settings = AUTH_SETTINGS.iter().chain(&OTHER_SETTINGS).chain(&UNSUPPORTED_SETTINGS);
                let variable = settings.find(|(name, _)| *name == key).and_then(|(_, names)| names.first());
                variable.map_or_else(|| key.to_owned(), ToString::to_string)
            }
        }
    }

    /// An error in the value of a key.
    pub(super) fn error(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic { key: Some(self.key_name(key)), message: message.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::CLOUD_KEYS;

    #[test]
    fn every_key_of_the_configuration_has_its_variable() {
        let variables: BTreeMap<_, _> = AUTH_SETTINGS.into_iter().chain(OTHER_SETTINGS).collect();
        for key in CLOUD_KEYS.into_iter().filter(|key| !key.ends_with("_file")) {
            let has_own_rule = ["cloud", "verify"].contains(&key);
            let has_variable = variables.get(key).is_some_and(|names| !names.is_empty());
            assert!(has_variable != has_own_rule, "{key}");
        }
    }
}
