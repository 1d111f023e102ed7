//! Which options of a request are taken, and the OACK that says so.
//!
//! Implements RFC 2347 (the extension), 2348 (`blksize`), 2349 (`tsize`, `timeout`) and 7440 (`windowsize`).
//!
//! Invariant: an OACK names only what was asked, in the client's order and spelling, and never more than was asked:
//! UEFI firmware refuses anything else as "Malformatted OACK packet". What is unknown or makes no sense is left
//! out, which by RFC 2347 is as if it had never been asked.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Limits;
use super::packet::{self, DATA_HEADER};

/// Without the option, <https://www.rfc-editor.org/rfc/rfc1350#section-2>.
const DEFAULT_BLOCK: u16 = 512;
/// <https://www.rfc-editor.org/rfc/rfc2348#page-1>
const BLOCKS: RangeInclusive<u64> = 8..=65464;
/// Seconds. RFC 2349 allows up to 255; a client that asks for more than this is better served by our own measure.
const TIMEOUTS: RangeInclusive<u64> = 1..=10;
/// <https://www.rfc-editor.org/rfc/rfc7440#section-3>
const WINDOWS: RangeInclusive<u64> = 1..=65535;

/// What both sides agreed on for one transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Bytes in a block.
    pub block_size: u16,
    /// Blocks in flight.
    pub window: u16,
    /// How long to wait for an answer, if the client said so.
    pub timeout: Option<Duration>,
    /// The client asked for the size of the file.
    pub size_asked: bool,
}

impl Default for Agreed {
    fn default() -> Self {
        Self { block_size: DEFAULT_BLOCK, window: 1, timeout: None, size_asked: false }
    }
}

/// Takes what can be taken of `asked`, for a file of `size` bytes. No OACK if nothing was: then block 1 is
/// the answer.
pub(super) fn negotiate<'a>(
    asked: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    size: u64,
    largest_block: u16,
    widest_window: u16,
) -> (Agreed, Option<Vec<u8>>) {
    let mut agreed = Agreed::default();
    let mut oack = packet::begin_oack();
    let bare = oack.len();
    let mut seen = [false; 4];
    for (name, value) in asked {
        let Some(option) = Known::of(name) else { continue };
        let Some(value) = number(value) else { continue };
        let Some(seen) = seen.get_mut(option as usize) else { continue };
        if std::mem::replace(seen, true) {
            continue;
        }
        let taken = match option {
            Known::Block if BLOCKS.contains(&value) => {
                agreed.block_size = value.min(u64::from(largest_block)) as u16;
                u64::from(agreed.block_size)
            }
            Known::Window if WINDOWS.contains(&value) => {
                agreed.window = value.min(u64::from(widest_window)) as u16;
                u64::from(agreed.window)
            }
            Known::Timeout if TIMEOUTS.contains(&value) => {
                agreed.timeout = Some(Duration::from_secs(value));
                value
            }
            Known::Size => {
                agreed.size_asked = true;
                size
            }
            _ => continue,
        };
        packet::write_option(&mut oack, name, taken);
    }
    (agreed, (oack.len() > bare).then_some(oack))
}

/// The largest block that leaves a datagram in one piece: some ROMs cannot put fragments together.
pub(super) fn largest_block(limits: &Limits, client: IpAddr, mtu: Option<u32>) -> u16 {
    let headers = match client.to_canonical() {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    };
    let udp = 8;
    let room = mtu.map_or(u32::MAX, |mtu| mtu.saturating_sub(headers + udp + DATA_HEADER as u32));
    let fits = u32::from(limits.block_size).min(room);
    fits.max(*BLOCKS.start() as u32) as u16
}

/// The options that mean something here. Unknown ones are ignored.
#[derive(Clone, Copy)]
enum Known {
    Block,
    Window,
    Timeout,
    Size,
}

impl Known {
    /// Names are case-insensitive, <https://www.rfc-editor.org/rfc/rfc2347#page-3>.
    fn of(name: &[u8]) -> Option<Self> {
        [
            (&b"blksize"[..], Self::Block),
            (b"windowsize", Self::Window),
            (b"timeout", Self::Timeout),
            (b"tsize", Self::Size),
        ]
        .into_iter()
        .find_map(|(known, option)| name.eq_ignore_ascii_case(known).then_some(option))
    }
}

/// A decimal number; one that is too large to mean anything is the largest there is.
fn number(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(options: &[(&str, &str)]) -> (Agreed, String) {
        let asked = options.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let (agreed, oack) = negotiate(asked, 1000, 1468, 16);
        let text = oack.map(|oack| String::from_utf8_lossy(&oack).replace('\0', " "));
        (agreed, text.unwrap_or_default())
    }

    #[test]
    fn what_uefi_asks_is_taken_in_its_order() {
        let (agreed, oack) = ask(&[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")]);
        assert_eq!(oack, " \u{6}tsize 1000 blksize 1468 windowsize 4 ");
        assert_eq!(agreed, Agreed { block_size: 1468, window: 4, timeout: None, size_asked: true });
    }

    #[test]
    fn options_are_acknowledged_only_if_asked() {
        assert_eq!(ask(&[]), (Agreed::default(), String::new()));
        assert_eq!(ask(&[("blksize", "1432")]).1, " \u{6}blksize 1432 ");
    }

    #[test]
    fn blksize_is_clamped_and_windows_are_capped() {
        assert_eq!(
            ask(&[("blksize", "65464"), ("windowsize", "65535")]).1,
            " \u{6}blksize 1468 windowsize 16 "
        );
    }

    #[test]
    fn unknown_options_and_values_without_sense_are_ignored() {
        for option in [
            ("multicast", "1"),
            ("blksize", "7"),
            ("blksize", "65465"),
            ("blksize", "x"),
            ("blksize", ""),
            ("windowsize", "0"),
            ("windowsize", "-1"),
            ("timeout", "0"),
            ("timeout", "255"),
            ("timeout", "99999999999999999999999"),
        ] {
            assert_eq!(ask(&[option]), (Agreed::default(), String::new()), "{option:?}");
        }
    }

    #[test]
    fn option_names_are_case_insensitive_and_keep_their_spelling() {
        assert_eq!(ask(&[("BlkSize", "1000")]).1, " \u{6}BlkSize 1000 ");
    }

    #[test]
    fn an_option_that_is_asked_twice_counts_once() {
        assert_eq!(ask(&[("blksize", "1000"), ("BLKSIZE", "900")]).1, " \u{6}blksize 1000 ");
    }

    #[test]
    fn a_timeout_is_acknowledged_as_it_was_asked() {
        let (agreed, oack) = ask(&[("timeout", "5")]);
        assert_eq!((agreed.timeout, oack.as_str()), (Some(Duration::from_secs(5)), " \u{6}timeout 5 "));
    }

    #[test]
    fn a_block_leaves_in_one_piece_whatever_the_mtu() {
        let limits = Limits { block_size: 8192, ..Limits::default() };
        let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().expect("an address"));
        assert_eq!(largest_block(&limits, v4, Some(1500)), 1468);
        assert_eq!(largest_block(&limits, v6, Some(1500)), 1448);
        assert_eq!(largest_block(&limits, v4, Some(9000)), 8192);
        assert_eq!(largest_block(&limits, v4, None), 8192);
        assert_eq!(largest_block(&Limits::default(), v4, Some(65536)), 1468);
    }
}
