//! Who we are towards OpenStack: Keystone v3 sessions, and which cloud they are for.
//!
//! [`Cloud::resolve`] makes a cloud of what was said in the configuration, in clouds.yaml or in `OS_*` variables; its
//! [`Session`] has the token with which Cinder is asked, and the catalogue that tells where Cinder is. A token is
//! renewed before it expires, by one request at a time, however many machines boot. A [`Validator`] finds out whose the
//! tokens are that people show to our own API.
//!
//! Left out on purpose: discovery of versions (there is only v3, below any path), and identity providers that need a
//! person (federation, TOTP).

mod authorization;
mod catalogue;
mod cloud;
mod clouds_yaml;
mod credentials;
mod exchange;
mod reach;
mod said;
mod session;
#[cfg(test)]
mod tests;
mod validator;

use crate::config::{Auth, Config, Fault};
pub use authorization::Authorization;
pub use catalogue::Interface;
pub use cloud::Cloud;
pub use credentials::{Credentials, Identity, Qualified};
pub use said::Surroundings;
pub use session::Session;
pub use validator::{Bearer, Reach, Validator};

/// All that is wrong with what the configuration leads to: clouds.yaml, variables, files of secrets.
pub fn faults(config: &Config, surroundings: &Surroundings) -> Vec<Fault> {
    let cloud = Cloud::resolve(&config.cinder.cloud, surroundings);
    let depends_on_cloud = config.keystone.auth_url.is_none();
    let validator = match &cloud {
        _ if config.api.auth != Auth::Keystone => Ok(()),
        Err(_) if depends_on_cloud => Ok(()),
        cloud => {
            Validator::resolve(&config.keystone, cloud.as_ref().ok().and_then(Option::as_ref)).map(|_| ())
        }
    };
    [cloud.map(|_| ()), validator].into_iter().filter_map(Result::err).flatten().collect()
}

/// There is no authorization to be had. Tells no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeystoneError {
    /// Keystone does not answer: no connection, a timeout, 5xx. It may again.
    #[error("Keystone does not answer: {0}")]
    Away(String),
    /// Keystone answers, and says no: to the user, the application credential or the project.
    #[error("Keystone refuses: {0}")]
    Refused(String),
    /// What answers is no Keystone, or one that speaks in another way.
    #[error("Keystone's answer makes no sense: {0}")]
    Unreadable(String),
}
