//! [`Challenges`]: numbers that make each request between instances unique.
//!
//! A challenge names its time by this process's monotonic clock, with a proof by a key of this process. So challenges for
//! strangers need no memory. A challenge is remembered once a proved request has used it, until it expires.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ring::hmac;

use super::proof::{decode_hex, encode_hex};
use super::secret::random;
use crate::store::StoreError;

/// Time for which a challenge can be used.
pub(super) const LIFETIME: Duration = Duration::from_secs(60);
/// Maximum number of used challenges. Above it, requests are refused until the oldest expires.
const CAPACITY: usize = 16_384;
/// Random bytes of a challenge.
const RANDOM: usize = 16;
/// Bytes of a challenge: random bytes, time, proof.
const LENGTH: usize = RANDOM + 8 + 32;

/// The challenges of this process.
#[derive(Debug)]
pub(super) struct Challenges {
    key: hmac::Key,
    started_at: Instant,
    /// Used challenges and the time of their issue, in milliseconds since the start; in the order of use.
    used: Mutex<VecDeque<(u64, Vec<u8>)>>,
}

impl Challenges {
    pub(super) fn new() -> Result<Self, StoreError> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &random::<32>()?);
        Ok(Self { key, started_at: Instant::now(), used: Mutex::default() })
    }

    /// A new challenge.
    pub(super) fn issue(&self) -> Result<String, StoreError> {
        self.issue_at(self.elapsed())
    }

    fn issue_at(&self, elapsed: u64) -> Result<String, StoreError> {
        let mut challenge = random::<RANDOM>()?.to_vec();
        challenge.extend_from_slice(&elapsed.to_be_bytes());
        let proof = hmac::sign(&self.key, &challenge);
        challenge.extend_from_slice(proof.as_ref());
        Ok(encode_hex(&challenge))
    }

    /// Uses a challenge for a proved request. Returns whether it is one of this process, recent, and was not used before.
    pub(super) fn redeem(&self, challenge: &str) -> bool {
        self.redeem_at(challenge, self.elapsed())
    }

    fn redeem_at(&self, challenge: &str, elapsed: u64) -> bool {
        let Some(challenge) = decode_hex(challenge).filter(|bytes| bytes.len() == LENGTH) else {
            return false;
        };
        let (message, proof) = challenge.split_at(RANDOM + 8);
        if hmac::verify(&self.key, message, proof).is_err() {
            return false;
        }
        let issued = message.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let is_expired = |issued: u64| elapsed.saturating_sub(issued) >= LIFETIME.as_millis() as u64;
        let mut used = self.used.lock();
        used.retain(|(issued, _)| !is_expired(*issued));
        if is_expired(issued) || used.len() >= CAPACITY || used.iter().any(|(_, known)| *known == challenge) {
            return false;
        }
        used.push_back((issued, challenge));
        true
    }

    fn elapsed(&self) -> u64 {
        self.started_at.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_used_once_and_expires() {
        let challenges = Challenges::new().expect("random numbers");
        let one = challenges.issue_at(1000).expect("random numbers");
        assert!(challenges.redeem_at(&one, 2000));
        assert!(!challenges.redeem_at(&one, 2000), "used");
        let late = challenges.issue_at(1000).expect("random numbers");
        assert!(!challenges.redeem_at(&late, 61_000), "expired");
        assert!(!challenges.redeem_at(&one, 61_000), "used, forgotten and expired");
        assert!(challenges.used.lock().is_empty());
    }

    #[test]
    fn only_challenges_of_this_process_count() {
        let challenges = Challenges::new().expect("random numbers");
        let other = Challenges::new().expect("random numbers").issue().expect("random numbers");
        let mut forged = challenges.issue().expect("random numbers").into_bytes();
        forged[40] = if forged[40] == b'0' { b'1' } else { b'0' };
        let forged = String::from_utf8(forged).expect("digits");
        for challenge in [&other, &forged, "", "zz"] {
            assert!(!challenges.redeem(challenge), "{challenge}");
        }
    }
}
