//! [`Validator`]: validates the tokens of API clients with Keystone.
//!
//! A token authorizes its own validation: Keystone's policy permits it to the holder of a token
//! (`identity:validate_token`, `token_subject`). volboot therefore needs no user and no role of its own. Keystone
//! refuses the validation of a token from an application credential with access rules. This is intended, because
//! volboot does not evaluate such rules.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderValue;

use super::{Cloud, KeystoneError, client, tokens};
use crate::config::{Diagnostic, KeystoneConfig};

/// Validates tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Validator {
    auth_url: String,
    http: reqwest::Client,
}

/// The bearer of a token: its user and roles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The user's id.
    pub user: String,
    /// The names of the user's roles.
    pub roles: Vec<String>,
    /// The scope in which the user has these roles.
    pub scope: TokenScope,
    /// The remaining lifetime of the token.
    pub lifetime: Duration,
}

/// The scope of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenScope {
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
    /// A domain, or no scope.
    Other,
}

impl Validator {
    /// Uses the Keystone of `[keystone]`, else the one of `[cinder]`'s cloud. Reads files.
    pub fn resolve_blocking(
        config: &KeystoneConfig,
        cinder: Option<&Cloud>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let error =
            |key: &str, message: String| vec![Diagnostic { key: Some(format!("keystone.{key}")), message }];
        let Some(url) = &config.auth_url else {
            let from_cinder = cinder.and_then(|cloud| Some((cloud.credentials.auth_url()?, &cloud.http)));
            let (auth_url, http) = from_cinder.ok_or_else(|| {
                let message =
                    "is required: api.auth is \"keystone\", and [cinder] configures no Keystone".into();
                error("auth_url", message)
            })?;
            return Ok(Self { auth_url: auth_url.to_owned(), http: http.clone() });
        };
        let auth_url =
            client::parse_auth_url(url).ok_or_else(|| error("auth_url", client::URL_EXPECTED.into()))?;
        let http = client::build(config.cacert.as_deref(), config.verify)
            .map_err(|message| error("cacert", message))?;
        Ok(Self { auth_url, http })
    }

    /// The URL of Keystone, up to and including `/v3`.
    pub fn auth_url(&self) -> &str {
        &self.auth_url
    }

    /// Validates a token; `None` if Keystone does not know it, or if it has expired.
    pub async fn validate(&self, token: &HeaderValue) -> Result<Option<Bearer>, KeystoneError> {
        let Some(body) = tokens::validate(&self.http, &self.auth_url, token).await? else {
            return Ok(None);
        };
        let project = body.project.and_then(|project| {
            Some(TokenScope::Project { id: project.id, name: project.name?, domain: project.domain? })
        });
        let scope = if body.is_system { TokenScope::System } else { project.unwrap_or(TokenScope::Other) };
        let user = body.user.ok_or_else(|| {
            let message = format!("{} answered with a token without a user", self.auth_url);
            KeystoneError::InvalidResponse(message)
        })?;
        Ok(Some(Bearer {
            user,
            roles: body.roles,
            scope,
            lifetime: body.expires_at.duration_since(Timestamp::now()).try_into().unwrap_or_default(),
        }))
    }
}
