//! [`LoginLimiter`]: bounds the password checks of each address, so that wrong passwords from one deny no log-in from
//! another.
//!
//! Each address has a bucket of checks, and one check at a time. A user who has logged in from an address before is
//! remembered: such a user has a bucket apart from the strangers at that address, such as a proxy's, and a queue apart
//! from all strangers.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore, SemaphorePermit};

/// Password checks of an address in a row.
const BURST: NonZeroU32 = NonZeroU32::new(10).expect("is not 0");
/// Time in which an address gets a further check.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(6);
/// Buckets. If all are in use, strangers wait.
const MAX_BUCKETS: usize = 1 << 14;
/// Users that are remembered, each with an address.
const MAX_REMEMBERED: usize = 1024;
/// Locks of addresses. Addresses with the same lock check one after the other; which ones these are is random.
const LOCKS: usize = 64;

/// A keyed hash: without this process's key it reveals nothing, and nobody can choose it.
type Digest = u64;

/// Bounds the checks of passwords.
#[derive(Debug)]
pub(super) struct LoginLimiter {
    /// Buckets by source; a remembered user has one for each address.
    buckets: DefaultKeyedRateLimiter<Digest>,
    remembered: Mutex<HashSet<Digest>>,
    locks: [AsyncMutex<()>; LOCKS],
    strangers: Semaphore,
    acquaintances: Semaphore,
    key: RandomState,
}

/// An address and a user name, as the limits see them.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoginSource {
    address: Digest,
    user: Digest,
    is_remembered: bool,
}

impl LoginLimiter {
    pub(super) fn new() -> Self {
        let quota = Quota::with_period(CHECK_INTERVAL).expect("is not 0").allow_burst(BURST);
        Self {
            buckets: DefaultKeyedRateLimiter::keyed(quota),
            remembered: Mutex::default(),
            locks: std::array::from_fn(|_| AsyncMutex::default()),
            // One check of each kind at a time: more would take CPU time from booting machines.
            strangers: Semaphore::new(1),
            acquaintances: Semaphore::new(1),
            key: RandomState::new(),
        }
    }

    /// The source of a log-in.
    pub(super) fn identify(&self, address: IpAddr, name: &str) -> LoginSource {
        let network = network_of(address);
        let user = self.key.hash_one((network, name));
        let is_remembered = self.remembered.lock().contains(&user);
        LoginSource { address: self.key.hash_one(network), user, is_remembered }
    }

    /// Waits for the checks before this one from the same address.
    pub(super) async fn lock(&self, source: LoginSource) -> tokio::sync::MutexGuard<'_, ()> {
        let key = if source.is_remembered { source.user } else { source.address };
        self.locks[key as usize % LOCKS].lock().await
    }

    /// Takes a check from the bucket of the source. `false` if the bucket is empty.
    pub(super) fn take_check(&self, source: LoginSource) -> bool {
        if self.buckets.len() >= MAX_BUCKETS {
            self.buckets.retain_recent();
            if self.buckets.len() >= MAX_BUCKETS && !source.is_remembered {
                return false;
            }
        }
        let key = if source.is_remembered { source.user } else { source.address };
        self.buckets.check_key(&key).is_ok()
    }

    /// Waits in the queue of the source for its turn.
    pub(super) async fn wait_for_turn(&self, source: LoginSource) -> Option<SemaphorePermit<'_>> {
        let queue = if source.is_remembered { &self.acquaintances } else { &self.strangers };
        queue.acquire().await.ok()
    }

    /// Remembers a user who has logged in.
    pub(super) fn remember(&self, source: LoginSource) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(source.user);
    }
}

/// The address, or for IPv6 its network: a host may choose any address in its /64 (RFC 4291, section 2.5.1).
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn exhaust(limiter: &LoginLimiter, source: LoginSource) -> usize {
        (0..100).take_while(|_| limiter.take_check(source)).count()
    }

    #[test]
    fn an_address_exhausts_its_own_bucket_only() {
        let limiter = LoginLimiter::new();
        let attacker = limiter.identify(address("192.0.2.7"), "ann");
        assert!((10..100).contains(&exhaust(&limiter, attacker)));
        // Another name does not help.
        assert!(!limiter.take_check(limiter.identify(address("192.0.2.7"), "bob")));
        assert!(limiter.take_check(limiter.identify(address("192.0.2.8"), "ann")));
        let host = limiter.identify(address("2001:db8::1"), "ann");
        exhaust(&limiter, host);
        assert!(!limiter.take_check(limiter.identify(address("2001:db8::2"), "ann")));
        assert!(limiter.take_check(limiter.identify(address("2001:db8:0:1::1"), "ann")));
    }

    #[tokio::test]
    async fn a_remembered_user_is_independent_of_strangers_at_the_same_address() {
        let limiter = LoginLimiter::new();
        let proxy = address("127.0.0.1");
        limiter.remember(limiter.identify(proxy, "ann"));
        let stranger = limiter.identify(proxy, "eve");
        exhaust(&limiter, stranger);
        let _lock = limiter.lock(stranger).await;
        let _turn = limiter.wait_for_turn(stranger).await.expect("a turn");
        let ann = limiter.identify(proxy, "ann");
        assert!(ann.is_remembered && limiter.take_check(ann));
        assert!(limiter.wait_for_turn(ann).await.is_some());
        assert!(!limiter.identify(address("192.0.2.7"), "ann").is_remembered, "elsewhere, ann is a stranger");
    }
}
