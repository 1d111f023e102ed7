//! [`Validator`]: asks Keystone whose a token is that somebody shows us.
//!
//! The token vouches for the request itself: Keystone's policy lets whoever holds a token ask about it
//! (`identity:validate_token`, `token_subject`). So no user of our own is needed, and no role for it. A token that an
//! application credential with access rules gave is refused by Keystone then, which is right: such rules are not
//! looked at here.

use std::time::Duration;

use axum::http::HeaderValue;
use jiff::Timestamp;

use super::{Cloud, KeystoneError, exchange, reach};
use crate::config::{Fault, KeystoneConfig};

/// Asks Keystone about other people's tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Validator {
    auth_url: String,
    http: reqwest::Client,
}

/// What a token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The user's id.
    pub user: String,
    /// The names of their roles.
    pub roles: Vec<String>,
    /// Where they have them.
    pub reach: Reach,
    /// How long the token will live.
    pub life: Duration,
}

/// What a token's roles are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The whole cloud.
    System,
    /// A project.
    Project {
        /// Its id.
        id: String,
        /// Its name, unique within its domain only.
        name: String,
        /// The domain's id.
        domain: String,
    },
    /// A domain, or nothing.
    Elsewhere,
}

impl Validator {
    /// Keystone as `[keystone]` names it, or else the one of `[cinder]`'s cloud. Reads files.
    pub fn resolve(config: &KeystoneConfig, cinder: Option<&Cloud>) -> Result<Self, Vec<Fault>> {
        let fault =
            |key: &str, message: String| vec![Fault { key: Some(format!("keystone.{key}")), message }];
        let Some(url) = &config.auth_url else {
            let found = cinder.and_then(|cloud| Some((cloud.credentials.auth_url()?, &cloud.http)));
            let (auth_url, http) = found.ok_or_else(|| {
                let message =
                    "is needed, since api.auth is \"keystone\" and [cinder] leads to no Keystone".into();
                fault("auth_url", message)
            })?;
            return Ok(Self { auth_url: auth_url.to_owned(), http: http.clone() });
        };
        let auth_url = reach::keystone(url).ok_or_else(|| fault("auth_url", reach::NO_URL.into()))?;
        let http = reach::client(config.cacert.as_deref(), config.verify)
            .map_err(|message| fault("cacert", message))?;
        Ok(Self { auth_url, http })
    }

    /// Keystone, up to `/v3`.
    pub fn auth_url(&self) -> &str {
        &self.auth_url
    }

    /// What a token stands for; none if Keystone knows no such token, or not any more.
    pub async fn validate(&self, token: &HeaderValue) -> Result<Option<Bearer>, KeystoneError> {
        let Some(body) = exchange::validate(&self.http, &self.auth_url, token).await? else {
            return Ok(None);
        };
        let reach = match (body.system, body.project) {
            (Some(system), _) if system.all => Reach::System,
            (_, Some(project)) => {
                Reach::Project { id: project.id, name: project.name, domain: project.domain.id }
            }
            _ => Reach::Elsewhere,
        };
        Ok(Some(Bearer {
            user: body.user.id,
            roles: body.roles.into_iter().map(|role| role.name).collect(),
            reach,
            life: body.expires_at.duration_since(Timestamp::now()).try_into().unwrap_or_default(),
        }))
    }
}
