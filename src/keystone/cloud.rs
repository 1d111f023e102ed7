//! [`Cloud`]: one OpenStack cloud and volboot's credentials there, from the configuration, clouds.yaml, or `OS_*`.
//!
//! With a cloud name (`cloud`, else `OS_CLOUD`), clouds.yaml supplies the settings. Without a name, the keys in
//! `[cinder]` do; if they identify no user, the environment variables do. A key in `[cinder]` overrides the other
//! source. A secret that `[cinder]` lacks comes from the environment.

use std::path::PathBuf;

use reqwest::header::HeaderValue;
use secrecy::SecretString;

use super::sources::{CloudSource, Environment, UNSUPPORTED_SETTINGS, WITHOUT_KEYSTONE};
use super::{Credentials, IdOrName, Interfaces, Qualified, Session, client, clouds_yaml};
use crate::config::{CloudConfig, Diagnostic};

/// The default project of a Cinder without Keystone. volboot sees all volumes there, whatever the project.
const DEFAULT_NOAUTH_PROJECT: &str = "00000000000000000000000000000000";

/// One cloud, and volboot's credentials there.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// The credentials.
    pub credentials: Credentials,
    /// The region; `None`: any.
    pub region: Option<String>,
    /// The endpoint interfaces.
    pub interfaces: Interfaces,
    /// The URL of the service, in place of the catalogue's. It has no trailing slash.
    pub endpoint_override: Option<String>,
    /// The HTTP client for this cloud. It has the CA bundle, follows no redirects, and uses no proxy.
    pub http: reqwest::Client,
}

impl Cloud {
    /// Resolves the cloud of `[cinder]`; `None` if no source has settings. Reads files.
    pub fn resolve_blocking(
        config: &CloudConfig,
        environment: &Environment,
    ) -> Result<Option<Self>, Vec<Diagnostic>> {
        let own = CloudSource::from_configuration("cinder", config);
        let name = match own.get("cloud") {
            Some(name) => Some(name),
            None if own.identifies_user() => None,
            None => environment.variable("OS_CLOUD"),
        };
        let fallback = match name {
            Some(name) => clouds_yaml::read(name, own.get("region_name"), environment).map_err(|error| {
                let key = error.key.or_else(|| Some("cinder.cloud".into()));
                vec![Diagnostic { key, ..error }]
            })?,
            None => CloudSource::from_environment(environment, own.identifies_user()),
        };
        if own.values.keys().all(|key| *key == "verify") && !fallback.identifies_user() {
            return Ok(None);
        }
        let mut builder = CloudBuilder { own, fallback, environment, errors: Vec::new() };
        let cloud = builder.build();
        match cloud.filter(|_| builder.errors.is_empty()) {
            Some(cloud) => Ok(Some(cloud)),
            None => Err(builder.errors),
        }
    }

    /// Creates a session in this cloud.
    pub fn session(&self) -> Session {
        Session::new(self.credentials.clone(), self.http.clone())
    }
}

/// Builds a cloud from two sources, and collects the errors in them.
struct CloudBuilder<'a> {
    own: CloudSource,
    fallback: CloudSource,
    environment: &'a Environment,
    errors: Vec<Diagnostic>,
}

impl CloudBuilder<'_> {
    /// `None` only if there are errors.
    fn build(&mut self) -> Option<Cloud> {
        self.check_unsupported();
        let credentials = self.credentials();
        let endpoint_override = self.url("endpoint_override", client::parse_url);
        if endpoint_override.is_none() && matches!(credentials, Some(Credentials::None { .. })) {
            self.report("endpoint_override", "is required: without Keystone there is no service catalogue");
        }
        let interfaces = self.get("interface").map_or_else(|| Ok(Interfaces::default()), str::parse);
        let interfaces = interfaces.map_err(|message: String| self.report("interface", message)).ok();
        let http = self.http_client();
        Some(Cloud {
            credentials: credentials?,
            region: self.get("region_name").map(str::to_owned),
            interfaces: interfaces?,
            endpoint_override,
            http: http?,
        })
    }

    /// Reports the settings that volboot does not support.
    fn check_unsupported(&mut self) {
        for (key, _) in UNSUPPORTED_SETTINGS {
            if self.fallback.get(key).is_none() {
                continue;
            }
            let message = match key {
                "system_scope" | "trust_id" if self.own.get("project_name").is_some() => continue,
                "system_scope" | "trust_id" if self.own.get("project_id").is_some() => continue,
                "system_scope" => {
                    "is not supported, because volumes belong to a project: remove it and set project_name, or set \
                     cinder.project_name"
                }
                "trust_id" => "is not supported: use an application credential, or the project's own user",
                "cert" | "key" => {
                    "client certificates are not supported: remove it, or describe the cloud in [cinder] without \
                     clouds.yaml"
                }
                _ => "proxies are not supported: volboot connects to Keystone and Cinder directly; remove it",
            };
            self.report(key, message);
        }
    }

    fn credentials(&mut self) -> Option<Credentials> {
        let of_application = ["application_credential_secret", "application_credential_secret_file"];
        let default = if of_application.iter().any(|key| self.get(key).is_some()) {
            "v3applicationcredential"
        } else {
            "password"
        };
        match self.get("auth_type").unwrap_or(default) {
            "password" | "v3password" => {
                let auth_url = self.auth_url();
                let user = self.qualified("username", "user_id", "user");
                let user = self.require("username", user);
                let password = self.secret("password", "password_file");
                let project = self.qualified("project_name", "project_id", "project");
                // A system scope has an error of its own.
                let project = if self.get("system_scope").is_some() {
                    project
                } else {
                    self.require("project_name", project)
                };
                Some(Credentials::Password {
                    auth_url: auth_url?,
                    user: user?,
                    password: password?,
                    project: project?,
                })
            }
            "v3applicationcredential" => {
                let auth_url = self.auth_url();
                let secret =
                    self.secret("application_credential_secret", "application_credential_secret_file");
                let credential = self.application_credential();
                Some(Credentials::ApplicationCredential {
                    auth_url: auth_url?,
                    credential: credential?,
                    secret: secret?,
                })
            }
            text if WITHOUT_KEYSTONE.contains(&text) => {
                let user =
                    self.get("user_id").or_else(|| self.get("username")).unwrap_or("volboot").to_owned();
                let project = self.get("project_id").map(str::to_owned);
                let project =
                    project.or_else(|| self.project_in_endpoint()).unwrap_or(DEFAULT_NOAUTH_PROJECT.into());
                if HeaderValue::from_str(&format!("{user}:{project}")).is_err() {
                    self.report(
                        "username",
                        "username and project_id may contain only characters that an HTTP header allows",
                    );
                }
                Some(Credentials::None { user, project })
            }
            other => {
                let message = format!(
                    "\"{other}\" is not \"password\", \"v3applicationcredential\" or \"none\" (or an alias of \
                     these)"
                );
                self.report("auth_type", message);
                None
            }
        }
    }

    /// An id, or a name together with its user.
    fn application_credential(&mut self) -> Option<(IdOrName, Option<Qualified>)> {
        if let Some(id) = self.get("application_credential_id") {
            return Some((IdOrName::Id(id.to_owned()), None));
        }
        let name = self.get("application_credential_name").map(str::to_owned);
        let name = self.require("application_credential_id", name)?;
        let user = self.qualified("username", "user_id", "user");
        Some((IdOrName::Name(name), Some(self.require("username", user)?)))
    }

    fn auth_url(&mut self) -> Option<String> {
        match self.get("auth_url") {
            Some(_) => self.url("auth_url", client::parse_auth_url),
            None => self.require("auth_url", None),
        }
    }

    /// A user or a project (`prefix`), by id, or by name within its domain.
    fn qualified(&self, name: &str, id: &str, prefix: &str) -> Option<Qualified> {
        let domain = self
            .id_or_name(&format!("{prefix}_domain_name"), &format!("{prefix}_domain_id"))
            .or_else(|| self.id_or_name("domain_name", "domain_id"))
            .or_else(|| self.id_or_name("default_domain_name", "default_domain_id"))
            .or_else(|| self.id_or_name("default_domain_name", "default_domain"))
            .unwrap_or_else(|| IdOrName::Id("default".into()));
        self.id_or_name(name, id).map(|identity| Qualified { identity, domain })
    }

    /// The id, else the name. A name in `[cinder]` takes precedence over an id of the other source.
    fn id_or_name(&self, name: &str, id: &str) -> Option<IdOrName> {
        [&self.own, &self.fallback].into_iter().find_map(|source| {
            let id = source.get(id).map(|id| IdOrName::Id(id.to_owned()));
            id.or_else(|| source.get(name).map(|name| IdOrName::Name(name.to_owned())))
        })
    }

    fn secret(&mut self, key: &str, file_key: &str) -> Option<SecretString> {
        match (self.own.get(key), self.own.get(file_key)) {
            (Some(_), Some(_)) => {
                self.report(file_key, format!("conflicts with {key}; set only one of them"));
                None
            }
            (None, Some(path)) => {
                let path = self.expand_home(path);
                match std::fs::read_to_string(&path)
                    .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                {
                    Ok(text) if text.is_empty() => {
                        self.report(file_key, format!("{} is empty", path.display()));
                    }
                    Ok(text) => return Some(text.into()),
                    Err(error) => {
                        self.report(file_key, format!("cannot read {}: {error}", path.display()));
                    }
                }
                None
            }
            _ => {
                let secret = self.get(key).map(SecretString::from);
                self.require(key, secret)
            }
        }
    }

    /// The project in a URL of the form `…/v3/PROJECT`, which some sites write.
    fn project_in_endpoint(&self) -> Option<String> {
        let (_, project) = self.get("endpoint_override")?.trim_end_matches('/').split_once("/v3/")?;
        Some(project.to_owned()).filter(|project| project.chars().all(|c| c.is_ascii_hexdigit() || c == '-'))
    }

    fn http_client(&mut self) -> Option<reqwest::Client> {
        let cacert = self.get("cacert").map(|path| self.expand_home(path));
        let verify = self.get("verify") != Some("false");
        client::build(cacert.as_deref(), verify).map_err(|message| self.report("cacert", message)).ok()
    }

    fn url(&mut self, key: &str, parse: fn(&str) -> Option<String>) -> Option<String> {
        let url = parse(self.get(key)?);
        if url.is_none() {
            self.report(key, client::URL_EXPECTED);
        }
        url
    }

    /// Replaces a leading `~/` with the home directory.
    fn expand_home(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), &self.environment.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => path.into(),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.own.get(key).or_else(|| self.fallback.get(key))
    }

    fn require<T>(&mut self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.report(key, "is required but not set");
        }
        value
    }

    /// Reports an error under the key's name in its own source. A missing key belongs to the source that identifies
    /// the user, or to the cloud that `[cinder]` names.
    fn report(&mut self, key: &str, message: impl Into<String>) {
        let has_user = self.fallback.identifies_user() || self.own.get("cloud").is_some();
        let is_own = self.own.get(key).is_some()
            || (self.fallback.get(key).is_none() && (self.own.identifies_user() || !has_user));
        let source = if is_own { &self.own } else { &self.fallback };
        self.errors.push(source.error(key, message));
    }
}
