//! [`PortKind`]: what third parties know about the port of a transfer.

use std::ops::RangeInclusive;

/// The least number of ports among which a port counts as unguessable. A forged ACK for each of them has 32 bytes, 131 kB
/// in all. The victim gets less for the one that fits: at most two windows of 16 blocks and a few single blocks.
const MIN_UNGUESSABLE: u32 = 4096;

/// What third parties know about the port of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortKind {
    /// A port of its own, random among thousands: a packet to this port comes from the client, or from the path to it.
    Unguessable,
    /// A port of its own from a small range: forged packets to all ports of the range are cheap.
    Guessable,
    /// The listen port, which all transfers share and everybody knows.
    Shared,
}

impl PortKind {
    /// The kind of a random port of this range; without a range, of a port that the kernel picks.
    pub(super) fn of_range(range: Option<&RangeInclusive<u16>>) -> Self {
        let ports = range.map_or(u32::MAX, |range| u32::from(range.end() - range.start()) + 1);
        if ports >= MIN_UNGUESSABLE { Self::Unguessable } else { Self::Guessable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_range_is_as_good_as_the_ports_of_the_kernel() {
        assert_eq!(PortKind::of_range(None), PortKind::Unguessable);
        assert_eq!(PortKind::of_range(Some(&(40_000..=44_095))), PortKind::Unguessable);
        assert_eq!(PortKind::of_range(Some(&(40_000..=44_094))), PortKind::Guessable);
        assert_eq!(PortKind::of_range(Some(&(69..=69))), PortKind::Guessable);
    }
}
