//! How often a machine may ask: by the address it asks from, and by the card it says it has.
//!
//! A machine that boots asks some ten times, one that waits every other second. Whoever asks without end, broken or
//! not, is told to wait before anybody looks who it is. This host itself is not paced: proxies and tests are here.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use governor::{DefaultKeyedRateLimiter, Quota};

use crate::model::Mac;

/// Requests that may come at once: so many seconds' worth.
const BURST_SECONDS: u32 = 15;
/// Addresses, and cards, that are known at once. Who asked seldom enough of late is not among them.
const MANY: usize = 1 << 16;
/// How often those are looked for that need not be known any more, at most.
const SWEEP: Duration = Duration::from_secs(1);

/// Whether a request may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Yes.
    Go,
    /// It came too soon after others.
    TooSoon,
    /// So many are asking that it cannot be said.
    TooMany,
}

/// Counts who asks how often.
#[derive(Debug)]
pub(super) struct Pacer(Option<Counts>);

#[derive(Debug)]
struct Counts {
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    cards: DefaultKeyedRateLimiter<Mac>,
    swept: Mutex<Instant>,
}

impl Pacer {
    /// `per_second`: how many requests, on the long run; 0: as many as they like.
    pub(super) fn new(per_second: u32) -> Self {
        Self(NonZeroU32::new(per_second).map(|per_second| {
            let quota = Quota::per_second(per_second).allow_burst(per_second.saturating_mul(BURST));
            Counts {
                addresses: DefaultKeyedRateLimiter::keyed(quota),
                cards: DefaultKeyedRateLimiter::keyed(quota),
                swept: Mutex::new(Instant::now()),
            }
        }))
    }

    /// A request from this address.
    pub(super) fn address(&self, remote: IpAddr) -> Pace {
        self.counts(remote).map_or(Pace::Go, |counts| counts.of(&counts.addresses, &remote))
    }

    /// A request from the machine with this card. Where the network shows the card, it must be that one: or others could
    /// use up what is this machine's.
    pub(super) fn card(&self, remote: IpAddr, card: Mac) -> Pace {
        self.counts(remote).map_or(Pace::Go, |counts| counts.of(&counts.cards, &card))
    }

    fn counts(&self, remote: IpAddr) -> Option<&Counts> {
        self.0.as_ref().filter(|_| !remote.is_loopback())
    }
}

const BURST: NonZeroU32 = NonZeroU32::new(BURST_SECONDS).expect("is not 0");

impl Counts {
    fn of<K: Hash + Eq + Clone>(&self, all: &DefaultKeyedRateLimiter<K>, one: &K) -> Pace {
        if all.len() >= MANY {
            self.sweep(all);
            if all.len() >= MANY {
                return Pace::TooMany;
            }
        }
        if all.check_key(one).is_ok() { Pace::Go } else { Pace::TooSoon }
    }

    fn sweep<K: Hash + Eq + Clone>(&self, all: &DefaultKeyedRateLimiter<K>) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        if swept.elapsed() >= SWEEP {
            *swept = Instant::now();
            all.retain_recent();
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

    fn card(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac::new([0x52, 0x54, a, b, c, d])
    }

    #[test]
    fn a_burst_goes_and_then_it_is_too_soon() {
        let pacer = Pacer::new(2);
        // The slower the host, the more may go meanwhile.
        let gone =
            |ask: &dyn Fn(u32) -> Pace| (0..1000).take_while(|&number| ask(number) == Pace::Go).count();
        assert!((30..1000).contains(&gone(&|_| pacer.address(address(1)))));
        // The same card from other addresses is the same machine.
        assert!((30..1000).contains(&gone(&|number| pacer.card(address(number), card(1)))));
        assert_eq!((pacer.address(address(2)), pacer.card(address(1), card(2))), (Pace::Go, Pace::Go));
    }

    #[test]
    fn this_host_is_not_paced_nor_anybody_if_so_configured() {
        let (pacer, unpaced) = (Pacer::new(1), Pacer::new(0));
        let here = IpAddr::from(Ipv4Addr::LOCALHOST);
        for _ in 0..100 {
            assert_eq!((pacer.address(here), pacer.card(here, card(1))), (Pace::Go, Pace::Go));
            assert_eq!(unpaced.address(address(1)), Pace::Go);
        }
    }

    #[test]
    fn so_many_are_known_and_no_more() {
        let pacer = Pacer::new(1);
        for number in 0..MANY as u32 {
            assert_eq!(pacer.address(address(number)), Pace::Go);
        }
        // On a slow host it may be time to forget some by now.
        if let Some(counts) = &pacer.0 {
            *counts.swept.lock().expect("not poisoned") = Instant::now();
        }
        assert_eq!(pacer.address(address(1 << 20)), Pace::TooMany);
        assert!(pacer.0.as_ref().is_some_and(|counts| counts.addresses.len() <= MANY));
    }
}
