//! [`Credentials`]: volboot's identity in a cloud, and the authentication request ([Identity API v3, "Password
//! authentication with scoped authorization"](https://docs.openstack.org/api-ref/identity/v3/)).

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// The credentials for one cloud.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A user's password, for a project (clouds.yaml: `password`, `v3password`).
    Password {
        /// Keystone, up to and including `/v3`.
        auth_url: String,
        /// The user.
        user: Qualified,
        /// The user's password.
        password: SecretString,
        /// The project to scope the token to.
        project: Qualified,
    },
    /// An application credential, which brings its own project (`v3applicationcredential`).
    ApplicationCredential {
        /// Keystone, up to and including `/v3`.
        auth_url: String,
        /// The credential; a name comes with its user.
        credential: (IdOrName, Option<Qualified>),
        /// Its secret.
        secret: SecretString,
    },
    /// A Cinder without Keystone, with `auth_strategy = noauth` (`none`, `noauth`).
    None {
        /// The user to send.
        user: String,
        /// The project to send.
        project: String,
    },
}

/// An id, or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdOrName {
    /// Unique by itself.
    Id(String),
    /// Unique within its domain or its user.
    Name(String),
}

/// A user or a project: an id, or a name within a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qualified {
    /// The id or name.
    pub identity: IdOrName,
    /// The domain of a name; unused with an id.
    pub domain: IdOrName,
}

impl IdOrName {
    fn to_json(&self) -> Value {
        match self {
            Self::Id(id) => json!({ "id": id }),
            Self::Name(name) => json!({ "name": name }),
        }
    }
}

impl Qualified {
    fn to_json(&self) -> Value {
        let mut value = self.identity.to_json();
        if matches!(self.identity, IdOrName::Name(_)) {
            value["domain"] = self.domain.to_json();
        }
        value
    }
}

impl Credentials {
    /// The URL of Keystone; `None` without Keystone.
    pub(super) fn auth_url(&self) -> Option<&str> {
        match self {
            Self::Password { auth_url, .. } | Self::ApplicationCredential { auth_url, .. } => Some(auth_url),
            Self::None { .. } => None,
        }
    }

    /// The secret, for redaction of error messages.
    pub(super) fn secret(&self) -> Option<&SecretString> {
        match self {
            Self::Password { password: secret, .. } | Self::ApplicationCredential { secret, .. } => {
                Some(secret)
            }
            Self::None { .. } => None,
        }
    }

    /// The body of `POST /v3/auth/tokens`.
    pub(super) fn to_request_body(&self) -> Value {
        match self {
            Self::Password { user, password, project, .. } => {
                let mut user = user.to_json();
                user["password"] = password.expose_secret().into();
                json!({ "auth": {
                    "identity": { "methods": ["password"], "password": { "user": user } },
                    "scope": { "project": project.to_json() },
                } })
            }
            Self::ApplicationCredential { credential: (credential, owner), secret, .. } => {
                let mut credential = credential.to_json();
                credential["secret"] = secret.expose_secret().into();
                if let Some(owner) = owner {
                    credential["user"] = owner.to_json();
                }
                json!({ "auth": { "identity": {
                    "methods": ["application_credential"],
                    "application_credential": credential,
                } } })
            }
            Self::None { .. } => Value::Null,
        }
    }
}
