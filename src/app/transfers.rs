//! Records the ended TFTP transfers in log and timeline.
//!
//! A request may be forged until the client has answered. Unanswered ones are therefore paced: a flood of them fills
//! neither the log nor the timeline, and the metrics count every one.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::model::{IpxeFeature, TransferOutcome, excerpt};
use crate::neighbours::Neighbours;
use crate::telemetry::{Event, EventKind, TftpTransfer};
use crate::tftp::{self, TransferEnd, TransferEvent};
use crate::timeline::Timeline;

/// Log lines per [`PERIOD`] about unanswered requests: of one source, and of all.
const UNANSWERED_LINES_PER_SOURCE: u32 = 1;
const UNANSWERED_LINES: u32 = 10;
/// Log lines per [`PERIOD`] about transfers of one source that answers. A machine needs two or three.
const LINES_PER_SOURCE: u32 = 16;
/// Most sources with log lines per [`PERIOD`].
const MAX_SOURCES: usize = 4096;
/// Unanswered requests per [`PERIOD`] that the timeline records.
const UNANSWERED_RECORDS: u32 = 200;
const PERIOD: Duration = Duration::from_secs(1);

/// Records each transfer when it ends.
pub(super) async fn record_transfers(mut transfers: mpsc::Receiver<TransferEvent>, timeline: Timeline) {
    let (neighbours, reloads) = (Neighbours::default(), timeline.reload_memory());
    let mut pacer = TransferPacer::new(Instant::now());
    while let Some(event) = transfers.recv().await {
        let decision = pacer.check(event.client.ip(), event.is_answered, Instant::now());
        if let Some(suppressed) = decision.suppressed {
            tracing::warn!(suppressed, "lines about TFTP transfers suppressed");
        }
        log_transfer(&event, decision.is_logged);
        let (client, local_ip, is_answered) = (event.client, event.local_ip, event.is_answered);
        // A forged request must not be filed under the machine with that address.
        let mac = match local_ip {
            Some(local_ip) if decision.is_recorded && is_answered => {
                neighbours.check(client, local_ip).await.mac()
            }
            Some(_) | None => None,
        };
        let mut transfer = TftpTransfer::from(event);
        transfer.refusal = find_refusal(client, &transfer, reloads.is_refused(client, &transfer.file));
        let kind = EventKind::TftpTransfer(transfer);
        let event = Event::new(Timestamp::now(), mac, Some(client.ip()), kind);
        if decision.is_recorded {
            timeline.record(event);
        } else {
            timeline.count_only(&event);
        }
    }
}

/// Logs a transfer, as a debug line if the pacer suppresses it.
fn log_transfer(event: &TransferEvent, is_logged: bool) {
    let duration_ms = event.duration.as_millis() as u64;
    let (client, name, size) = (event.client, excerpt(&event.name), event.size);
    let outcome = TransferOutcome::from(&event.outcome);
    let outcome = outcome.as_str();
    let (block_size, window_size) = (event.options.block_size, event.options.window_size);
    let (blocks, retransmissions) = (event.blocks, event.retransmissions);
    let reason = match event.outcome {
        TransferEnd::NotAllowed => Some("the address is not in any network of [tftp] allow"),
        TransferEnd::Busy => Some("[tftp] transfers or transfers_per_client is reached"),
        TransferEnd::Complete
        | TransferEnd::Unconfirmed
        | TransferEnd::Probe
        | TransferEnd::Aborted { .. }
        | TransferEnd::Replaced
        | TransferEnd::TimedOut
        | TransferEnd::Stopped
        | TransferEnd::NotFound
        | TransferEnd::Refused => None,
    };
    if is_logged {
        tracing::info!(
            %client, name, outcome, reason, size, block_size, window_size, blocks, retransmissions, duration_ms,
            "TFTP transfer ended"
        );
    } else {
        tracing::debug!(%client, name, outcome, reason, duration_ms, "TFTP transfer ended");
    }
}

/// The canonical form of a name as text, which the memory of loads and the timeline compare. In such text, a byte that
/// is no UTF-8 has become U+FFFD; firmware sends 0xFF after the name.
pub(super) fn canonicalize_file(name: &str) -> String {
    let bytes = name.replace('\u{fffd}', "\0");
    let canonical = tftp::canonicalize_name(bytes.as_bytes());
    excerpt(&canonical.map_or_else(|| name.into(), |name| String::from_utf8_lossy(&name).into_owned()))
}

/// The reason for a machine that lacks the feature again after it has read this file.
pub(super) fn describe_refusal(file: &str, lacking: IpxeFeature) -> String {
    let image = file.rsplit('/').next().unwrap_or(file);
    lacking.describe_lack(image)
}

/// The reason that the machine got instead of this file, if it lacks a feature. Logs what it got.
fn find_refusal(client: SocketAddr, transfer: &TftpTransfer, is_refused: bool) -> Option<String> {
    let file = transfer.file.as_str();
    let lacking = IpxeFeature::lacking(file).filter(|_| transfer.outcome.is_whole_file())?;
    if !is_refused {
        tracing::info!(%client, name = file, "iPXE lacks {lacking}: sent a complete one");
        return None;
    }
    let reason = describe_refusal(file, lacking);
    tracing::warn!(%client, name = file, reason, "boot ended: iPXE lacks {lacking}");
    Some(reason)
}

/// Paces log lines and timeline events.
#[derive(Debug)]
struct TransferPacer {
    period_start: Instant,
    /// Log lines of this period, in all about unanswered requests, and of each source.
    unanswered_lines: u32,
    lines: HashMap<IpAddr, u32>,
    unanswered_records: u32,
    suppressed: u64,
}

/// What becomes of a transfer.
#[derive(Debug, PartialEq, Eq)]
struct PacingDecision {
    is_logged: bool,
    is_recorded: bool,
    /// Lines suppressed in an earlier period, to be logged now.
    suppressed: Option<u64>,
}

impl TransferPacer {
    fn new(now: Instant) -> Self {
        Self {
            period_start: now,
            unanswered_lines: 0,
            lines: HashMap::new(),
            unanswered_records: 0,
            suppressed: 0,
        }
    }

    fn check(&mut self, source: IpAddr, is_answered: bool, now: Instant) -> PacingDecision {
        let mut suppressed = None;
        if now >= self.period_start + PERIOD {
            let count = std::mem::take(&mut self.suppressed);
            *self = Self::new(now);
            if count > 0 {
                suppressed = Some(count);
                self.unanswered_lines = 1;
            }
        }
        let (limit, has_room) = if is_answered {
            (LINES_PER_SOURCE, true)
        } else {
            (UNANSWERED_LINES_PER_SOURCE, self.unanswered_lines < UNANSWERED_LINES)
        };
        let lines = self.lines.get(&source).copied();
        let is_known = lines.is_some() || self.lines.len() < MAX_SOURCES;
        let is_logged = has_room && is_known && lines.unwrap_or_default() < limit;
        if is_logged {
            *self.lines.entry(source).or_default() += 1;
            self.unanswered_lines += u32::from(!is_answered);
        } else {
            self.suppressed += 1;
        }
        self.unanswered_records += u32::from(!is_answered);
        PacingDecision {
            is_logged,
            is_recorded: is_answered || self.unanswered_records <= UNANSWERED_RECORDS,
            suppressed,
        }
    }
}

impl From<TransferEvent> for TftpTransfer {
    fn from(event: TransferEvent) -> Self {
        let outcome = TransferOutcome::from(&event.outcome);
        let client_message = match event.outcome {
            TransferEnd::Aborted { message, .. } => Some(message),
            TransferEnd::Complete
            | TransferEnd::Unconfirmed
            | TransferEnd::Probe
            | TransferEnd::Replaced
            | TransferEnd::TimedOut
            | TransferEnd::Stopped
            | TransferEnd::NotFound
            | TransferEnd::Busy
            | TransferEnd::Refused
            | TransferEnd::NotAllowed => None,
        };
        Self {
            file: canonicalize_file(&event.name),
            outcome,
            size: event.size,
            block_size: event.options.block_size,
            window_size: event.options.window_size,
            blocks: event.blocks,
            retransmissions: event.retransmissions,
            duration_ms: event.duration.as_millis() as u64,
            client_message,
            refusal: None,
        }
    }
}

impl From<&TransferEnd> for TransferOutcome {
    fn from(end: &TransferEnd) -> Self {
        match end {
            TransferEnd::Complete => Self::Complete,
            TransferEnd::Unconfirmed => Self::Unconfirmed,
            TransferEnd::Probe => Self::Probe,
            TransferEnd::Aborted { .. } => Self::Aborted,
            TransferEnd::Replaced => Self::Replaced,
            TransferEnd::TimedOut => Self::TimedOut,
            TransferEnd::Stopped => Self::Stopped,
            TransferEnd::NotFound => Self::NotFound,
            TransferEnd::Busy => Self::Busy,
            TransferEnd::Refused | TransferEnd::NotAllowed => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_canonical_form() {
        let file = "without-http/undionly.kpxe";
        for raw in [
            &b"\\without-http\\undionly.kpxe"[..],
            b"/without-http//undionly.kpxe",
            b"without-http/./undionly.kpxe\xff\x03\x06",
            b"without-http/undionly.kpxe\x80\x99",
        ] {
            let recorded = canonicalize_file(&String::from_utf8_lossy(raw));
            let requested = tftp::canonicalize_name(raw).expect("a name");
            assert_eq!(recorded, file);
            assert_eq!(canonicalize_file(&String::from_utf8_lossy(&requested)), file);
        }
        assert_eq!(canonicalize_file("../x"), "../x");
    }

    /// The logged and the recorded transfers of `count` in each of `periods`, from the sources in turn.
    fn count_lines(sources: u32, is_answered: bool, count: u32, periods: u32) -> (u32, u32) {
        let start = Instant::now();
        let mut pacer = TransferPacer::new(start);
        let (mut lines, mut records) = (0, 0);
        for number in 0..count * periods {
            let now = start + PERIOD * number / count;
            let source = IpAddr::from((number % sources).to_be_bytes());
            let decision = pacer.check(source, is_answered, now);
            lines += u32::from(decision.is_logged) + u32::from(decision.suppressed.is_some());
            records += u32::from(decision.is_recorded);
        }
        (lines, records)
    }

    #[test]
    fn unanswered_requests_get_one_line_a_second_of_a_source_and_ten_of_all() {
        assert_eq!(count_lines(100_000, false, 2000, 40), (10 * 40, 200 * 40));
        // A second line says how many were suppressed.
        assert_eq!(count_lines(1, false, 2000, 40), (2 * 40 - 1, 200 * 40));
        assert_eq!(count_lines(5, false, 5, 40), (5 * 40, 5 * 40));
    }

    #[test]
    fn every_transfer_of_a_boot_storm_is_logged() {
        assert_eq!(count_lines(1000, true, 3000, 4), (3000 * 4, 3000 * 4));
        assert_eq!(count_lines(1, true, 2000, 1), (LINES_PER_SOURCE, 2000));
    }
}
