//! Option negotiation: accepts the options of a request and builds the OACK.
//!
//! Implements RFC 2347 (the extension), 2348 (`blksize`), 2349 (`tsize`, `timeout`) and 7440 (`windowsize`).
//!
//! Invariant: an OACK contains only requested options, in the client's order and spelling, and no value above the
//! requested one. UEFI firmware rejects anything else as "Malformatted OACK packet". Unknown options and invalid
//! values are left out, which by RFC 2347 equals a request without them.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::TransferLimits;
use super::budget::MAX_BYTES;
use super::packet::{self, DATA_HEADER};

/// Without `blksize`, <https://www.rfc-editor.org/rfc/rfc1350#section-2>.
const DEFAULT_BLOCK_SIZE: u16 = 512;
/// <https://www.rfc-editor.org/rfc/rfc2348#page-1>
const BLOCK_SIZES: RangeInclusive<u64> = 8..=65464;
/// Seconds. RFC 2349 allows up to 255. For longer values than this, the RTO estimate serves the client better.
const TIMEOUTS: RangeInclusive<u64> = 1..=10;
/// <https://www.rfc-editor.org/rfc/rfc7440#section-3>
const WINDOW_SIZES: RangeInclusive<u64> = 1..=65535;

/// The options in force for a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NegotiatedOptions {
    /// Bytes per block.
    pub block_size: u16,
    /// Blocks in flight.
    pub window_size: u16,
    /// The client's time-out, if negotiated.
    pub timeout: Option<Duration>,
    /// Whether the client requested the size of the file.
    pub size_requested: bool,
}

impl Default for NegotiatedOptions {
    fn default() -> Self {
        Self { block_size: DEFAULT_BLOCK_SIZE, window_size: 1, timeout: None, size_requested: false }
    }
}

/// Negotiates the requested options for a file of `size` bytes. Returns no OACK if no option is accepted: then block
/// 1 is the response.
pub(super) fn negotiate<'a>(
    requested: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    size: u64,
    max_block_size: u16,
    max_window_size: u16,
) -> (NegotiatedOptions, Option<Vec<u8>>) {
    let mut options = NegotiatedOptions::default();
    let mut oack = packet::begin_oack();
    let empty_length = oack.len();
    let mut is_duplicate = [false; 4];
    for (name, value) in requested {
        let Some(kind) = OptionKind::from_name(name) else { continue };
        let Some(value) = parse_number(value) else { continue };
        let Some(is_duplicate) = is_duplicate.get_mut(kind as usize) else { continue };
        if std::mem::replace(is_duplicate, true) {
            continue;
        }
        let value = match kind {
            OptionKind::BlockSize if BLOCK_SIZES.contains(&value) => {
                options.block_size = value.min(u64::from(max_block_size)) as u16;
                u64::from(options.block_size)
            }
            OptionKind::WindowSize if WINDOW_SIZES.contains(&value) => {
                options.window_size = value.min(u64::from(max_window_size)) as u16;
                u64::from(options.window_size)
            }
            OptionKind::Timeout if TIMEOUTS.contains(&value) => {
                options.timeout = Some(Duration::from_secs(value));
                value
            }
            OptionKind::TransferSize => {
                options.size_requested = true;
                size
            }
            _ => continue,
        };
        packet::write_option(&mut oack, name, value);
    }
    (options, (oack.len() > empty_length).then_some(oack))
}

/// The largest block that needs no IP fragmentation: some ROMs cannot reassemble fragments.
pub(super) fn max_block_size(limits: &TransferLimits, client: IpAddr, mtu: Option<u32>) -> u16 {
    let ip_header = match client.to_canonical() {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    };
    let udp_header = 8;
    let headers = ip_header + udp_header + DATA_HEADER as u32;
    let room = mtu.map_or(u32::MAX, |mtu| mtu.saturating_sub(headers));
    let size = u32::from(limits.block_size).min(room);
    size.max(*BLOCK_SIZES.start() as u32) as u16
}

/// The largest window. The first one goes to a client that may be forged, so it fits into the budget of an address, with
/// its OACK and the packet headers.
pub(super) fn max_window_size(limits: &TransferLimits, max_block_size: u16) -> u16 {
    let most_packet_headers = 64;
    let room = MAX_BYTES * 9 / 10 / (usize::from(max_block_size) + most_packet_headers);
    limits.window_size.clamp(1, TransferLimits::MAX_WINDOW_SIZE).min(room as u16).max(1)
}

/// Supported options.
#[derive(Clone, Copy)]
enum OptionKind {
    BlockSize,
    WindowSize,
    Timeout,
    TransferSize,
}

impl OptionKind {
    /// Looks up an option. Names are case-insensitive, <https://www.rfc-editor.org/rfc/rfc2347#page-3>.
    fn from_name(name: &[u8]) -> Option<Self> {
        [
            (&b"blksize"[..], Self::BlockSize),
            (b"windowsize", Self::WindowSize),
            (b"timeout", Self::Timeout),
            (b"tsize", Self::TransferSize),
        ]
        .into_iter()
        .find_map(|(option, kind)| name.eq_ignore_ascii_case(option).then_some(kind))
    }
}

/// Parses a decimal number; larger numbers saturate.
fn parse_number(value: &[u8]) -> Option<u64> {
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

    fn negotiate_options(requested: &[(&str, &str)]) -> (NegotiatedOptions, String) {
        let requested = requested.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let (options, oack) = negotiate(requested, 1000, 1468, 16);
        let text = oack.map(|oack| String::from_utf8_lossy(&oack).replace('\0', " "));
        (options, text.unwrap_or_default())
    }

    #[test]
    fn the_oack_of_a_uefi_client_keeps_the_order_of_its_options() {
        let (options, oack) = negotiate_options(&[("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")]);
        assert_eq!(oack, " \u{6}tsize 1000 blksize 1468 windowsize 4 ");
        let expected =
            NegotiatedOptions { block_size: 1468, window_size: 4, timeout: None, size_requested: true };
        assert_eq!(options, expected);
    }

    #[test]
    fn only_requested_options_are_acknowledged() {
        assert_eq!(negotiate_options(&[]), (NegotiatedOptions::default(), String::new()));
        assert_eq!(negotiate_options(&[("blksize", "1432")]).1, " \u{6}blksize 1432 ");
    }

    #[test]
    fn blksize_is_clamped_and_windows_are_capped() {
        assert_eq!(
            negotiate_options(&[("blksize", "65464"), ("windowsize", "65535")]).1,
            " \u{6}blksize 1468 windowsize 16 "
        );
    }

    #[test]
    fn unknown_options_and_invalid_values_are_ignored() {
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
            assert_eq!(
                negotiate_options(&[option]),
                (NegotiatedOptions::default(), String::new()),
                "{option:?}"
            );
        }
    }

    #[test]
    fn option_names_are_case_insensitive_and_keep_their_spelling() {
        assert_eq!(negotiate_options(&[("BlkSize", "1000")]).1, " \u{6}BlkSize 1000 ");
    }

    #[test]
    fn a_repeated_option_counts_once() {
        assert_eq!(negotiate_options(&[("blksize", "1000"), ("BLKSIZE", "900")]).1, " \u{6}blksize 1000 ");
    }

    #[test]
    fn a_timeout_is_acknowledged_unchanged() {
        let (options, oack) = negotiate_options(&[("timeout", "5")]);
        assert_eq!((options.timeout, oack.as_str()), (Some(Duration::from_secs(5)), " \u{6}timeout 5 "));
    }

    #[test]
    fn a_block_needs_no_fragmentation_at_any_mtu() {
        let limits = TransferLimits { block_size: 8192, ..TransferLimits::default() };
        let (v4, v6) = (IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().expect("an address"));
        assert_eq!(max_block_size(&limits, v4, Some(1500)), 1468);
        assert_eq!(max_block_size(&limits, v6, Some(1500)), 1448);
        assert_eq!(max_block_size(&limits, v4, Some(9000)), 8192);
        assert_eq!(max_block_size(&limits, v4, None), 8192);
        assert_eq!(max_block_size(&TransferLimits::default(), v4, Some(65536)), 1468);
    }

    #[test]
    fn a_window_fits_into_the_budget_of_an_address() {
        let limits = TransferLimits { window_size: 64, ..TransferLimits::default() };
        assert_eq!(max_window_size(&limits, 1468), 64);
        assert_eq!(max_window_size(&limits, 8192), 27);
        assert_eq!(max_window_size(&limits, 65464), 3);
    }
}
