//! [`Cloud`]: one cloud and who we are in it, made of what was said in the configuration, clouds.yaml, or `OS_*`.
//!
//! A cloud that is named (`cloud`, else `OS_CLOUD`) is read from clouds.yaml. Without a name, our own keys say it all,
//! or, if they do not say who we are, the environment does. Our own keys win over what is said elsewhere, and a secret
//! that is missing among them is taken from the environment.

use std::path::PathBuf;

use axum::http::HeaderValue;
use secrecy::SecretString;

use super::said::{Said, Surroundings};
use super::{Credentials, Identity, Interface, Qualified, Session, clouds_yaml, reach};
use crate::config::{CloudConfig, Fault};

/// The project of a Cinder without Keystone, where none is named. It sees all volumes whatever the project.
const NO_PROJECT: &str = "00000000000000000000000000000000";

/// One cloud, and who we are in it.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// Who we are.
    pub credentials: Credentials,
    /// Which of its regions; none: any.
    pub region: Option<String>,
    /// Which of its services' doors.
    pub interface: Interface,
    /// Where the service is, whatever the catalogue says. Without a slash at its end.
    pub endpoint_override: Option<String>,
    /// Speaks to it: it knows the certificates to trust, follows no redirection, goes through no proxy.
    pub http: reqwest::Client,
}

impl Cloud {
    /// The cloud that `[cinder]` means; none if nothing was said anywhere. Reads files.
    pub fn resolve(config: &CloudConfig, surroundings: &Surroundings) -> Result<Option<Self>, Vec<Fault>> {
        let own = Said::in_configuration("cinder", config);
        let name = match own.get("cloud") {
            Some(name) => Some(name),
            None if own.says_who() => None,
            None => surroundings.variable("OS_CLOUD"),
        };
        let elsewhere = match name {
            Some(name) => clouds_yaml::read(name, surroundings).map_err(|fault| {
                let key = fault.key.or_else(|| Some("cinder.cloud".into()));
                vec![Fault { key, ..fault }]
            })?,
            None => Said::in_environment(surroundings, own.says_who()),
        };
        if own.values.keys().all(|key| *key == "verify") && !elsewhere.says_who() {
            return Ok(None);
        }
        let mut reader = Reader { own, elsewhere, surroundings, faults: Vec::new() };
        let cloud = reader.cloud();
        match cloud.filter(|_| reader.faults.is_empty()) {
            Some(cloud) => Ok(Some(cloud)),
            None => Err(reader.faults),
        }
    }

    /// A session in it.
    pub fn session(&self) -> Session {
        Session::new(self.credentials.clone(), self.http.clone())
    }
}

/// Makes sense of what was said, and collects what makes none.
struct Reader<'a> {
    own: Said,
    elsewhere: Said,
    surroundings: &'a Surroundings,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// None only if there are faults.
    fn cloud(&mut self) -> Option<Cloud> {
        let credentials = self.credentials();
        let endpoint_override = self.url("endpoint_override", reach::url);
        if endpoint_override.is_none() && matches!(credentials, Some(Credentials::None { .. })) {
            self.fault("endpoint_override", "is needed, since without Keystone there is no catalogue");
        }
        let interface = self.get("interface").unwrap_or("public").parse();
        let interface = interface.map_err(|message: String| self.fault("interface", message)).ok();
        let http = self.http_client();
        Some(Cloud {
            credentials: credentials?,
            region: self.get("region_name").map(str::to_owned),
            interface: interface?,
            endpoint_override,
            http: http?,
        })
    }

    fn credentials(&mut self) -> Option<Credentials> {
        let of_application = ["application_credential_secret", "application_credential_secret_file"];
        let implied = if of_application.iter().any(|key| self.get(key).is_some()) {
            "v3applicationcredential"
        } else {
            "password"
        };
        match self.get("auth_type").unwrap_or(implied) {
            "password" | "v3password" => {
                let auth_url = self.auth_url();
                let user = self.named("username", "user_id", "user");
                let user = self.needed("username", user);
                let password = self.secret("password", "password_file");
                let project = self.named("project_name", "project_id", "project");
                let project = self.needed("project_name", project);
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
            "none" | "noauth" => {
                let user =
                    self.get("user_id").or_else(|| self.get("username")).unwrap_or("volboot").to_owned();
                let project = self.get("project_id").map(str::to_owned);
                let project = project.or_else(|| self.project_in_endpoint()).unwrap_or(NO_PROJECT.into());
                if HeaderValue::from_str(&format!("{user}:{project}")).is_err() {
                    self.fault("username", "cannot be sent, nor can the project_id with it");
                }
                Some(Credentials::None { user, project })
            }
            other => {
                let message = format!(
                    "\"{other}\" is not \"password\", \"v3applicationcredential\" or \"none\" (or another spelling \
                     of these)"
                );
                self.fault("auth_type", message);
                None
            }
        }
    }

    /// An id, or a name with the user whose it is.
    fn application_credential(&mut self) -> Option<(Identity, Option<Qualified>)> {
        if let Some(id) = self.get("application_credential_id") {
            return Some((Identity::Id(id.to_owned()), None));
        }
        let name = self.get("application_credential_name").map(str::to_owned);
        let name = self.needed("application_credential_id", name)?;
        let user = self.named("username", "user_id", "user");
        Some((Identity::Name(name), Some(self.needed("username", user)?)))
    }

    fn auth_url(&mut self) -> Option<String> {
        match self.get("auth_url") {
            Some(_) => self.url("auth_url", reach::keystone),
            None => self.needed("auth_url", None),
        }
    }

    /// A user or a project, by id or by name within its domain.
    fn named(&self, name: &str, id: &str, whose: &str) -> Option<Qualified> {
        let domain = self
            .identity(&format!("{whose}_domain_name"), &format!("{whose}_domain_id"))
            .or_else(|| self.identity("domain_name", "domain_id"))
            .or_else(|| self.identity("default_domain_name", "default_domain_id"))
            .or_else(|| self.identity("default_domain_name", "default_domain"))
            .unwrap_or_else(|| Identity::Id("default".into()));
        self.identity(name, id).map(|identity| Qualified { identity, domain })
    }

    /// An id, else a name; but a name of our own keys rather than an id from elsewhere.
    fn identity(&self, name: &str, id: &str) -> Option<Identity> {
        [&self.own, &self.elsewhere].into_iter().find_map(|said| {
            let id = said.get(id).map(|id| Identity::Id(id.to_owned()));
            id.or_else(|| said.get(name).map(|name| Identity::Name(name.to_owned())))
        })
    }

    fn secret(&mut self, key: &str, file: &str) -> Option<SecretString> {
        match (self.own.get(key), self.own.get(file)) {
            (Some(_), Some(_)) => {
                self.fault(file, format!("{key} is set as well"));
                None
            }
            (None, Some(path)) => {
                let path = self.path(path);
                match std::fs::read_to_string(&path)
                    .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
                {
                    Ok(text) if text.is_empty() => self.fault(file, format!("{} is empty", path.display())),
                    Ok(text) => return Some(text.into()),
                    Err(error) => self.fault(file, format!("cannot read {}: {error}", path.display())),
                }
                None
            }
            _ => {
                let secret = self.get(key).map(SecretString::from);
                self.needed(key, secret)
            }
        }
    }

    /// `…/v3/PROJECT`, as some write it.
    fn project_in_endpoint(&self) -> Option<String> {
        let (_, project) = self.get("endpoint_override")?.trim_end_matches('/').split_once("/v3/")?;
        Some(project.to_owned()).filter(|project| project.chars().all(|c| c.is_ascii_hexdigit() || c == '-'))
    }

    fn http_client(&mut self) -> Option<reqwest::Client> {
        let cacert = self.get("cacert").map(|path| self.path(path));
        let verify = self.get("verify") != Some("false");
        reach::client(cacert.as_deref(), verify).map_err(|message| self.fault("cacert", message)).ok()
    }

    fn url(&mut self, key: &str, read: fn(&str) -> Option<String>) -> Option<String> {
        let url = read(self.get(key)?);
        if url.is_none() {
            self.fault(key, reach::NO_URL);
        }
        url
    }

    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), &self.surroundings.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => text.into(),
        }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.own.get(key).or_else(|| self.elsewhere.get(key))
    }

    fn needed<T>(&mut self, key: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.fault(key, "is needed, and not said");
        }
        value
    }

    /// Under the name of where it was said; of what was said nowhere, of where the rest was.
    fn fault(&mut self, key: &str, message: impl Into<String>) {
        let here = self.own.get(key).is_some()
            || (self.elsewhere.get(key).is_none() && (self.own.says_who() || !self.elsewhere.says_who()));
        let said = if here { &self.own } else { &self.elsewhere };
        self.faults.push(said.fault(key, message));
    }
}
