//! [`Credentials`]: how we prove who we are, and the request that does
//! ([Identity API v3, "Password authentication with scoped authorization"](https://docs.openstack.org/api-ref/identity/v3/)).

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

/// How we prove who we are.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A user's password, for a project (clouds.yaml: `password`, `v3password`).
    Password {
        /// Keystone, up to and including `/v3`.
        auth_url: String,
        /// Who.
        user: Qualified,
        /// Their password.
        password: SecretString,
        /// For which project.
        project: Qualified,
    },
    /// An application credential, which brings its own project (`v3applicationcredential`).
    ApplicationCredential {
        /// Keystone, up to and including `/v3`.
        auth_url: String,
        /// Which; a name is one of the user's.
        credential: (Identity, Option<Qualified>),
        /// Its secret.
        secret: SecretString,
    },
    /// Nobody asks (`none`, `noauth`): a Cinder by itself, with `auth_strategy = noauth`.
    None {
        /// What it is told about the user.
        user: String,
        /// What it is told about the project.
        project: String,
    },
}

/// An id, or a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Unique by itself.
    Id(String),
    /// Unique within something.
    Name(String),
}

/// A user or a project: an id, or a name within a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qualified {
    /// Which.
    pub identity: Identity,
    /// The domain of a name.
    pub domain: Identity,
}

impl Identity {
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
        if matches!(self.identity, Identity::Name(_)) {
            value["domain"] = self.domain.to_json();
        }
        value
    }
}

impl Credentials {
    /// Keystone; none if nobody asks.
    pub(super) fn auth_url(&self) -> Option<&str> {
        match self {
            Self::Password { auth_url, .. } | Self::ApplicationCredential { auth_url, .. } => Some(auth_url),
            Self::None { .. } => None,
        }
    }

    /// The secret among them, so that it can be kept out of what others repeat.
    pub(super) fn secret(&self) -> Option<&SecretString> {
        match self {
            Self::Password { password: secret, .. } | Self::ApplicationCredential { secret, .. } => {
                Some(secret)
            }
            Self::None { .. } => None,
        }
    }

    /// The body of `POST /v3/auth/tokens`.
    pub(super) fn request(&self) -> Value {
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
