//! What was said about a cloud, in one of three places: our own configuration, clouds.yaml, `OS_*` variables.
//!
//! Each place calls the same thing by a name of its own; what is wrong is told under the name that its author knows.

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;

use crate::config::{CloudConfig, Fault};

/// What is found around the process: variables, and the directories where OpenStack's files may be.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// Where clouds.yaml and its like are looked for, in this order.
    pub directories: Vec<PathBuf>,
    /// What `~` stands for.
    pub home: Option<PathBuf>,
}

impl Surroundings {
    /// Those of this process; the directories are openstacksdk's.
    pub fn here() -> Self {
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

    /// A variable that is set to something.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Where something was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A table of our configuration.
    Configuration(&'static str),
    /// A cloud of clouds.yaml.
    File(PathBuf, String),
    /// `OS_*`
    Environment,
}

/// What was said in one place, under the keys of [`crate::config::CLOUD_KEYS`], with those of clouds.yaml that our
/// configuration does not have: `domain_*` and `default_domain*`.
pub(super) struct Said {
    pub(super) place: Place,
    pub(super) values: BTreeMap<&'static str, String>,
}

/// Keys and the variables for them. Of several, the first that is set.
const VARIABLES: [(&str, &[&str]); 21] = [
    ("auth_type", &["OS_AUTH_TYPE", "OS_AUTH_PLUGIN"]),
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
    ("default_domain", &["OS_DEFAULT_DOMAIN"]),
    ("default_domain_id", &["OS_DEFAULT_DOMAIN_ID"]),
    ("default_domain_name", &["OS_DEFAULT_DOMAIN_NAME"]),
    ("application_credential_id", &["OS_APPLICATION_CREDENTIAL_ID"]),
    ("application_credential_name", &["OS_APPLICATION_CREDENTIAL_NAME"]),
    ("application_credential_secret", &["OS_APPLICATION_CREDENTIAL_SECRET"]),
    ("region_name", &["OS_REGION_NAME"]),
    ("interface", &["OS_INTERFACE", "OS_ENDPOINT_TYPE"]),
    (
        "endpoint_override",
        &["OS_BLOCK_STORAGE_ENDPOINT_OVERRIDE", "OS_VOLUME_ENDPOINT_OVERRIDE", "OS_ENDPOINT"],
    ),
    ("cacert", &["OS_CACERT"]),
];

/// The keys that say who we are: with one of them, the environment is not asked for another.
const WHO: [&str; 6] = [
    "auth_type",
    "auth_url",
    "username",
    "user_id",
    "application_credential_id",
    "application_credential_name",
];
const SECRETS: [&str; 2] = ["password", "application_credential_secret"];

impl Said {
    /// What a table of the configuration says.
    pub(super) fn in_configuration(table: &'static str, config: &CloudConfig) -> Self {
        let values = config.iter().map(|(key, text)| (key, text.to_owned())).collect();
        Self { place: Place::Configuration(table), values }
    }

    /// What the environment says. With `secrets_only`, no more than that.
    pub(super) fn in_environment(surroundings: &Surroundings, secrets_only: bool) -> Self {
        let said = VARIABLES.iter().filter_map(|(key, names)| {
            let value = names.iter().find_map(|name| surroundings.variable(name))?;
            Some((*key, value.to_owned()))
        });
        let mut values: BTreeMap<_, _> =
            said.filter(|(key, _)| !secrets_only || SECRETS.contains(key)).collect();
        let insecure = surroundings.variable("OS_INSECURE").map(str::to_ascii_lowercase);
        if !secrets_only && insecure.is_some_and(|text| ["1", "true", "yes", "on"].contains(&&*text)) {
            values.insert("verify", "false".into());
        }
        Self { place: Place::Environment, values }
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Whether it says who we are.
    pub(super) fn says_who(&self) -> bool {
        WHO.iter().any(|key| self.values.contains_key(key))
    }

    /// What a key is called in this place.
    pub(super) fn name(&self, key: &str) -> String {
        match &self.place {
            Place::Configuration(table) => format!("{table}.{key}"),
            Place::File(path, cloud) => {
                let auth = match key {
                    "auth_type" | "region_name" | "interface" | "cacert" | "verify" | "endpoint_override" => {
                        ""
                    }
                    _ => "auth.",
                };
                format!("{}: clouds.{cloud}.{auth}{key}", path.display())
            }
            Place::Environment => {
                let variable =
                    VARIABLES.iter().find(|(name, _)| *name == key).and_then(|(_, all)| all.first());
                variable.map_or_else(|| key.to_owned(), ToString::to_string)
            }
        }
    }

    /// Something is wrong with what was said here.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        Fault { key: Some(self.name(key)), message: message.into() }
    }
}
