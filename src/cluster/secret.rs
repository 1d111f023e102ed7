//! [`ClusterSecret`]: the key that the instances on one store share.
//!
//! The first instance creates it by a conditional write; all others find it. A client of the store can read the
//! secret, and could as well read the secrets in the records.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::store::{Batch, Store, StoreError, WriteError};

/// The key of the secret in the store.
const KEY: &str = "cluster/secret";
/// Bytes of the secret.
const LENGTH: usize = 32;

/// The shared key. `Debug` shows nothing of it.
#[derive(Debug, Clone)]
pub(super) struct ClusterSecret(hmac::Key);

#[derive(Serialize, Deserialize)]
struct SecretRecord {
    secret: String,
}

impl ClusterSecret {
    /// The key with these bytes.
    pub(super) fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// Reads the secret of the store; creates it if there is none.
    pub(super) async fn load(store: &dyn Store) -> Result<Self, StoreError> {
        if let Some(secret) = Self::read(store).await? {
            return Ok(secret);
        }
        let record = SecretRecord { secret: STANDARD.encode(random::<LENGTH>()?) };
        let value = serde_json::to_vec(&record).map_err(|error| StoreError::Damaged(error.to_string()))?;
        match store.write(Batch::default().require_absent(KEY).put(KEY, value)).await {
            // Another instance may have been first.
            Ok(_) | Err(WriteError::Conflict(_)) => {}
            Err(WriteError::Store(error)) => return Err(error),
        }
        let missing = || StoreError::Damaged(format!("{KEY} is missing"));
        Self::read(store).await?.ok_or_else(missing)
    }

    async fn read(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        let records = store.get(&[KEY.to_owned()]).await?;
        let Some(record) = records.into_iter().flatten().next() else { return Ok(None) };
        // The cause could quote the secret.
        let damaged = || StoreError::Damaged(format!("{KEY} is not a secret"));
        let record: SecretRecord = serde_json::from_slice(&record.value).map_err(|_| damaged())?;
        let secret = STANDARD.decode(record.secret).ok().filter(|secret| secret.len() >= LENGTH);
        Ok(Some(Self::new(&secret.ok_or_else(damaged)?)))
    }

    pub(super) fn key(&self) -> &hmac::Key {
        &self.0
    }
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    let failed = |_| StoreError::Unavailable("the system has no random numbers".to_owned());
    SystemRandom::new().fill(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[tokio::test]
    async fn all_instances_have_the_secret_of_the_first() {
        let store = MemoryStore::default();
        let (one, other) = (store.join(), store.join());
        let (one, other) = tokio::join!(ClusterSecret::load(&one), ClusterSecret::load(&other));
        let sign = |secret: &ClusterSecret| hmac::sign(secret.key(), b"text").as_ref().to_vec();
        let (one, other) = (one.expect("loads"), other.expect("loads"));
        assert_eq!(sign(&one), sign(&other));
        assert_ne!(sign(&one), sign(&ClusterSecret::new(b"another")));
        let record = store.get(&[KEY.to_owned()]).await.expect("reads").remove(0).expect("exists");
        let record: SecretRecord = serde_json::from_slice(&record.value).expect("is a secret");
        assert!(!format!("{one:?}").contains(&record.secret));
    }
}
