//! Rate limits: token buckets per IP address, for boot requests and for files, and per MAC address in the neighbour table.
//!
//! A booting machine sends some ten requests; a waiting one sends one every other second. A requester over the limit
//! gets a wait before any look-up in the store. Loopback addresses are exempt, for proxies on this host and tests.
//!
//! Files and missing paths have buckets of their own: firmware that looks for a dozen names still gets its boot script.
//! The burst of files suffices for 32 machines behind one address, with four files each: UEFI firmware requests the
//! binary twice, iPXE reads `autoexec.ipxe` and `boot.ipxe`. Firmware ends the boot at an error, unlike iPXE.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::{DefaultKeyedRateLimiter, Quota};
use parking_lot::Mutex;

use crate::model::Mac;

/// The burst: as many requests as the limit allows in this time.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::new(15).expect("is not 0");
/// The same for files, of which every name is known.
const FILE_BURST_SECONDS: NonZeroU32 = NonZeroU32::new(64).expect("is not 0");
/// Buckets per table: above 100,000 requesters, in about 10 MB. Full buckets, of requesters that were quiet lately, are
/// evicted.
const MAX_BUCKETS: usize = 1 << 17;
/// The shortest time between two evictions.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a request is within the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RateDecision {
    /// Within the limit.
    Allowed,
    /// The requester's bucket is empty.
    OverLimit,
    /// The table has no room for another bucket, so the limit cannot be checked.
    TableFull,
}

/// Limits the rate of requests; without buckets, allows all.
#[derive(Debug)]
pub(super) struct RateLimiter(Option<RequestBuckets>);

#[derive(Debug)]
struct RequestBuckets {
    by_address: Buckets<IpAddr>,
    by_mac: Buckets<Mac>,
    files: Buckets<IpAddr>,
    missing: Buckets<IpAddr>,
}

/// A table of token buckets, bounded in size.
#[derive(Debug)]
pub(super) struct Buckets<K: Hash + Eq + Clone> {
    table: DefaultKeyedRateLimiter<K>,
    last_eviction: Mutex<Instant>,
}

impl RateLimiter {
    /// Allows `per_second` requests per second on average; 0 means no limit.
    pub(super) fn new(per_second: u32) -> Self {
        Self(NonZeroU32::new(per_second).map(|per_second| {
            let quota = Quota::per_second(per_second);
            let for_requests = quota.allow_burst(per_second.saturating_mul(BURST_SECONDS));
            let for_files = quota.allow_burst(per_second.saturating_mul(FILE_BURST_SECONDS));
            RequestBuckets {
                by_address: Buckets::new(for_requests),
                by_mac: Buckets::new(for_requests),
                files: Buckets::new(for_files),
                missing: Buckets::new(for_requests),
            }
        }))
    }

    /// Counts a request from this address.
    pub(super) fn check_address(&self, remote: IpAddr) -> RateDecision {
        self.buckets(remote).map_or(RateDecision::Allowed, |buckets| buckets.by_address.check(&remote))
    }

    /// Counts a request of the machine with this MAC address in the neighbour table. The MAC address in a request is a
    /// claim: without an entry, only the IP address counts, so that no stranger uses up the bucket of a machine.
    pub(super) fn check_mac(&self, remote: IpAddr, mac: Option<Mac>) -> RateDecision {
        match (self.buckets(remote), mac) {
            (Some(buckets), Some(mac)) => buckets.by_mac.check(&mac),
            (None, _) | (_, None) => RateDecision::Allowed,
        }
    }

    /// Counts a request from this address for a file: an iPXE binary, `boot.ipxe` or `autoexec.ipxe`.
    pub(super) fn check_file(&self, remote: IpAddr) -> RateDecision {
        self.buckets(remote).map_or(RateDecision::Allowed, |buckets| buckets.files.check(&remote))
    }

    /// Counts a request from this address for a path that does not exist. The history records the name.
    pub(super) fn check_missing(&self, remote: IpAddr) -> RateDecision {
        self.buckets(remote).map_or(RateDecision::Allowed, |buckets| buckets.missing.check(&remote))
    }

    fn buckets(&self, remote: IpAddr) -> Option<&RequestBuckets> {
        self.0.as_ref().filter(|_| !remote.is_loopback())
    }
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    pub(super) fn new(quota: Quota) -> Self {
        Self { table: DefaultKeyedRateLimiter::keyed(quota), last_eviction: Mutex::new(Instant::now()) }
    }

    /// Takes a token from the bucket of `key`.
    pub(super) fn check(&self, key: &K) -> RateDecision {
        if self.table.len() >= MAX_BUCKETS {
            self.evict();
            if self.table.len() >= MAX_BUCKETS {
                return RateDecision::TableFull;
            }
        }
        if self.table.check_key(key).is_ok() { RateDecision::Allowed } else { RateDecision::OverLimit }
    }

    fn evict(&self) {
        let mut last_eviction = self.last_eviction.lock();
        if last_eviction.elapsed() >= EVICTION_INTERVAL {
            *last_eviction = Instant::now();
            self.table.retain_recent();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0000 + number).into()
    }

    fn mac(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac::new([0x52, 0x54, a, b, c, d])
    }

    #[test]
    fn burst_is_allowed_then_limited() {
        let limiter = RateLimiter::new(2);
        // On a slow host the buckets refill meanwhile, so the burst appears longer.
        let burst = |check: &dyn Fn(u32) -> RateDecision| {
            (0..1000).take_while(|&number| check(number) == RateDecision::Allowed).count()
        };
        assert!((30..1000).contains(&burst(&|_| limiter.check_address(address(1)))));
        // A claim spends nothing of the card with that address.
        assert_eq!(burst(&|number| limiter.check_mac(address(number), None)), 1000);
        // Requests of one card count together, from any IP address.
        assert!((30..1000).contains(&burst(&|number| limiter.check_mac(address(number), Some(mac(1))))));
        assert_eq!(
            (limiter.check_address(address(2)), limiter.check_mac(address(1), Some(mac(2)))),
            (RateDecision::Allowed, RateDecision::Allowed)
        );
    }

    #[test]
    fn loopback_and_limit_zero_are_exempt() {
        let (limiter, unlimited) = (RateLimiter::new(1), RateLimiter::new(0));
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        for _ in 0..100 {
            assert_eq!(
                (limiter.check_address(loopback), limiter.check_mac(loopback, Some(mac(1)))),
                (RateDecision::Allowed, RateDecision::Allowed)
            );
            assert_eq!(unlimited.check_address(address(1)), RateDecision::Allowed);
        }
    }

    #[test]
    fn table_size_is_bounded() {
        let limiter = RateLimiter::new(1);
        for number in 0..MAX_BUCKETS as u32 {
            assert_eq!(limiter.check_address(address(number)), RateDecision::Allowed);
        }
        // Postpones the next eviction, which would be due by now on a slow host.
        if let Some(buckets) = &limiter.0 {
            *buckets.by_address.last_eviction.lock() = Instant::now();
        }
        assert_eq!(limiter.check_address(address(1 << 20)), RateDecision::TableFull);
        assert!(limiter.0.as_ref().is_some_and(|buckets| buckets.by_address.table.len() <= MAX_BUCKETS));
    }
}
