//! [`Refusals`]: refused logins. A target may lock an account after some, so none is repeated within a minute.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::iscsi::{LoginParameters, LoginRefusal};

/// The time in which a refused login is not repeated.
const PERIOD: Duration = Duration::from_secs(60);
/// The most refusals that are remembered.
const MAX_REFUSALS: usize = 1024;

/// A login: a digest of portal, names and secret. Other credentials are another login.
type LoginKey = [u8; 32];

/// The refused logins of the last minute.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    refused: Mutex<HashMap<LoginKey, (Instant, LoginRefusal)>>,
}

impl Refusals {
    /// The refusal of this login within the period.
    pub(super) fn find(&self, portal: &str, parameters: &LoginParameters) -> Option<LoginRefusal> {
        let refused = self.refused.lock();
        let (at, refusal) = refused.get(&login_key(portal, parameters))?;
        (at.elapsed() < PERIOD).then_some(*refusal)
    }

    /// Remembers a refusal.
    pub(super) fn insert(&self, portal: &str, parameters: &LoginParameters, refusal: LoginRefusal) {
        let mut refused = self.refused.lock();
        refused.retain(|_, (at, _)| at.elapsed() < PERIOD);
        if refused.len() < MAX_REFUSALS {
            refused.insert(login_key(portal, parameters), (Instant::now(), refusal));
        }
    }
}

fn login_key(portal: &str, parameters: &LoginParameters) -> LoginKey {
    let (name, secret) = match &parameters.chap {
        Some((name, secret)) => (name.as_str(), secret.expose_secret()),
        None => ("", ""),
    };
    let mut hash = Sha256::new();
    for text in [portal, &parameters.target, &parameters.initiator, name, secret] {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_refusal_lasts_a_minute_and_ends_with_other_credentials() {
        let login = |secret: &str| LoginParameters {
            initiator: "iqn.2017-08.org.example:web-1".to_owned(),
            target: "iqn.2026-01.org.example:root".to_owned(),
            chap: Some(("web-1".to_owned(), secret.to_owned().into())),
        };
        let refusals = Refusals::default();
        refusals.insert("192.0.2.1:3260", &login("wrong secret"), LoginRefusal::AUTHENTICATION);
        assert_eq!(
            refusals.find("192.0.2.1:3260", &login("wrong secret")),
            Some(LoginRefusal::AUTHENTICATION)
        );
        assert_eq!(refusals.find("192.0.2.1:3260", &login("right secret")), None);
        assert_eq!(refusals.find("192.0.2.2:3260", &login("wrong secret")), None);
        tokio::time::advance(PERIOD).await;
        assert_eq!(refusals.find("192.0.2.1:3260", &login("wrong secret")), None);
    }
}
