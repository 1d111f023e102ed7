//! Client for OpenStack Keystone v3: credentials, sessions, and validation of tokens.
//!
//! [`Cloud::resolve_blocking`] builds a cloud from the configuration, clouds.yaml or `OS_*` variables. Its
//! [`Session`] holds the token for requests to Cinder, and the service catalogue with Cinder's endpoint. Before a
//! token expires, a single request renews it, however many machines boot. A [`Validator`] validates the tokens of the
//! clients of volboot's API.
//!
//! Left out on purpose: version discovery (only v3 is supported, below any path), and interactive identity providers
//! (federation, TOTP).

mod authorization;
mod catalogue;
mod client;
mod cloud;
mod cloud_entry;
mod clouds_yaml;
mod credentials;
mod response;
mod session;
mod sources;
#[cfg(test)]
mod tests;
mod tokens;
mod types;
mod validator;
mod yaml;

use crate::config::{AuthStrategy, Config, Diagnostic};
pub use authorization::Authorization;
pub use catalogue::{Interface, Interfaces};
pub use cloud::Cloud;
pub use credentials::{Credentials, IdOrName, Qualified};
pub(crate) use response::{ServiceResponse, StatusClass, TransportError};
pub use session::Session;
pub use sources::Environment;
pub use validator::{Bearer, TokenScope, Validator};

/// Checks the sources that the configuration refers to: clouds.yaml, environment variables, files of secrets.
pub fn check_blocking(config: &Config, environment: &Environment) -> Vec<Diagnostic> {
    let cloud = Cloud::resolve_blocking(&config.cinder.cloud, environment);
    let depends_on_cloud = config.keystone.auth_url.is_none();
    let validator = match &cloud {
        _ if config.api.auth != AuthStrategy::Keystone => Ok(()),
        Err(_) if depends_on_cloud => Ok(()),
        cloud => Validator::resolve_blocking(&config.keystone, cloud.as_ref().ok().and_then(Option::as_ref))
            .map(|_| ()),
    };
    [cloud.map(|_| ()), validator].into_iter().filter_map(Result::err).flatten().collect()
}

/// The reason that there is no authorization. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeystoneError {
    /// No connection, a time-out, or a temporary HTTP status such as 5xx. A later request may succeed.
    #[error("Keystone is unavailable: {0}")]
    Unavailable(String),
    /// Keystone rejects the user, the application credential or the project.
    #[error("authorization refused: {0}")]
    Refused(String),
    /// The response is not one of Keystone v3.
    #[error("invalid response from Keystone: {0}")]
    InvalidResponse(String),
}
