//! State machine of one transfer: packets and the time in, a burst to send and the next deadline out.
//!
//! ```text
//!          options requested                        ACK 0
//! request ──────────────────► OACK sent ────────────────────────┐
//!    │                        │  ERROR: probe                   ▼
//!    └─ no options ───────────┼──────────────────────► blocks in flight ──► last ACK: complete
//!                             ▼                        ERROR: aborted
//!                        no response: retransmit, then time out
//! ```
//!
//! Implements the sender of RFC 1350 §4 and §6 and RFC 7440 §4. Three rules keep duplicates from multiplying (the
//! Sorcerer's Apprentice, RFC 1123 §4.2.3.1), while a lost block still costs only one round trip:
//!
//! * with a window of 1, only the timer retransmits, never a duplicate ACK;
//! * with a larger window, an ACK inside the window rewinds to the block after it, once per distinct ACK: UEFI
//!   firmware sends the same ACK for every packet out of order;
//! * an ACK that arrives sooner after a burst than the round trip allows says nothing about that burst.
//!
//! Four rules protect a victim whose address is forged, and a client whose transfer others want to end:
//!
//! * before any DATA was acknowledged, the timer retransmits a single block. The first window is a whole one all the
//!   same: clients acknowledge whole windows only, and a shorter one would stall them (atftp, EDK2);
//! * an ACK of the same number gets at most [`MAX_WINDOWS_PER_ACK`] windows;
//! * before any response, the back-off has no upper bound;
//! * a shared or guessable port proves nothing: an ERROR ends a moving transfer only if the client falls silent.
//!
//! Invariant: `last_acked <= last_sent <= last_acked + window_size`, and `last_acked` never decreases. Block numbers
//! count from 1 in 64 bits. On the wire, 16 bits wrap to 0, as iPXE, EDK2 and U-Boot expect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::blocks::Blocks;
use super::burst::{Burst, Step};
use super::packet::ClientPacket;
use super::port_kind::PortKind;
use super::rtt::RttEstimator;
use super::transmit::Transmit;
use super::{NegotiatedOptions, TransferEnd, TransferLimits};

/// Most windows in response to ACKs of the same number.
const MAX_WINDOWS_PER_ACK: u8 = 2;
/// A transfer moves if a DATA block was acknowledged within this time. In a moving transfer, a forged packet is more
/// likely than an abort or a new start.
pub(super) const MOVING_INTERVAL: Duration = Duration::from_secs(1);

/// Transfer of a file to a client.
#[derive(Debug)]
pub(super) struct Transfer {
    blocks: Arc<Blocks>,
    options: NegotiatedOptions,
    /// `Some` until the client has acknowledged the OACK.
    oack: Option<Box<[u8]>>,
    /// Number of the final block, which is shorter than the others and may be empty.
    last_block: u64,
    /// The client has every block up to this number.
    last_acked: u64,
    /// Blocks after this number were never sent.
    last_sent: u64,
    has_response: bool,
    /// The blocks after `last_acked` were retransmitted already.
    has_rewound: bool,
    /// Windows sent in response to ACKs of `last_acked`.
    windows_for_ack: u8,
    port: PortKind,
    /// When and how the transfer ends unless the client makes progress.
    doubtful_end: Option<(Instant, TransferEnd)>,
    /// Time of the last burst, and whether it holds no retransmission.
    burst_sent_at: Instant,
    burst_is_new: bool,
    rtt: RttEstimator,
    /// Time of the last ACK that made progress.
    last_progress_at: Instant,
    stall_timeout: Duration,
    linger_timeout: Duration,
    expires_at: Instant,
    retransmissions: u64,
}

impl Transfer {
    /// Starts a transfer; returns its first burst, too.
    pub(super) fn begin(
        blocks: Arc<Blocks>,
        options: NegotiatedOptions,
        oack: Option<Vec<u8>>,
        limits: &TransferLimits,
        port: PortKind,
        now: Instant,
    ) -> (Self, Burst) {
        let three_timeouts = options.timeout.map_or(Duration::ZERO, |timeout| timeout * 3);
        let mut transfer = Self {
            last_block: blocks.file_len() as u64 / u64::from(options.block_size) + 1,
            blocks,
            oack: oack.map(Vec::into_boxed_slice),
            last_acked: 0,
            last_sent: 0,
            has_response: false,
            has_rewound: false,
            windows_for_ack: 0,
            port,
            doubtful_end: None,
            burst_sent_at: now,
            burst_is_new: true,
            rtt: RttEstimator::new(limits, options.timeout),
            last_progress_at: now,
            stall_timeout: limits.stall_timeout.max(three_timeouts),
            linger_timeout: limits.linger_timeout.max(three_timeouts),
            expires_at: now + limits.max_duration,
            retransmissions: 0,
            options,
        };
        let burst = if transfer.oack.is_some() { Burst::Oack } else { transfer.advance(now) };
        (transfer, burst)
    }

    /// Handles a packet from the client.
    pub(super) fn handle_packet(&mut self, packet: &[u8], now: Instant) -> Step {
        match ClientPacket::parse(packet) {
            Some(ClientPacket::Ack(block)) => self.handle_ack(block, now),
            Some(ClientPacket::Error { code, message }) => {
                self.has_response = true;
                self.end(self.error_outcome(code, message), now)
            }
            None => Step::Wait,
        }
    }

    /// Handles an ICMP error: the client's host or a router on the way rejects the transfer's packets.
    pub(super) fn handle_unreachable(&mut self, now: Instant) -> Step {
        let outcome = if self.has_response && self.is_all_sent() {
            TransferEnd::Unconfirmed
        } else {
            self.error_outcome(0, b"ICMP: destination unreachable")
        };
        self.end(outcome, now)
    }

    /// Ends the transfer; if it moves and its port may be guessed, only after silence.
    fn end(&mut self, outcome: TransferEnd, now: Instant) -> Step {
        if self.port != PortKind::Unguessable && self.is_moving(now) {
            self.doubtful_end = Some((now + MOVING_INTERVAL, outcome));
            return Step::Wait;
        }
        Step::End(outcome)
    }

    /// Handles a duplicate of the request. Before any response, the client has probably not received the first burst.
    pub(super) fn handle_duplicate_request(&mut self, now: Instant) -> Burst {
        self.retransmit(now)
    }

    /// Whether the client has responded yet.
    pub(super) fn has_response(&self) -> bool {
        self.has_response
    }

    /// Time of the last ACK that made progress.
    pub(super) fn last_progress_at(&self) -> Instant {
        self.last_progress_at
    }

    /// Whether the client has acknowledged a DATA block: the client exists and wants the file.
    pub(super) fn is_proven(&self) -> bool {
        self.last_acked > 0
    }

    /// Whether the client has responded on a port that third parties cannot guess: its address is not forged.
    pub(super) fn is_address_genuine(&self) -> bool {
        self.has_response && self.port == PortKind::Unguessable
    }

    /// Whether a DATA block was acknowledged within [`MOVING_INTERVAL`].
    pub(super) fn is_moving(&self, now: Instant) -> bool {
        self.is_proven() && now < self.last_progress_at + MOVING_INTERVAL
    }

    /// Retransmits or ends the transfer if a deadline has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Step {
        if let Some((_, outcome)) = self.doubtful_end.take_if(|(at, _)| now >= *at) {
            return Step::End(outcome);
        }
        if now >= self.give_up_at() {
            let outcome = if self.has_response && self.is_all_sent() {
                TransferEnd::Unconfirmed
            } else {
                TransferEnd::TimedOut
            };
            return Step::End(outcome);
        }
        if now < self.retransmit_at() {
            return Step::Wait;
        }
        self.rtt.back_off();
        self.has_rewound = false;
        if self.oack.is_some() || self.is_proven() {
            return Step::Send(match self.retransmit(now) {
                Burst::Oack => Burst::UnrequestedOack,
                blocks => blocks,
            });
        }
        self.burst_sent_at = now;
        self.burst_is_new = false;
        self.retransmissions += 1;
        Step::Send(Burst::FIRST_BLOCK)
    }

    /// Time of the next [`Transfer::tick`].
    pub(super) fn deadline(&self) -> Instant {
        let deadline = self.retransmit_at().min(self.give_up_at());
        self.doubtful_end.as_ref().map_or(deadline, |(at, _)| deadline.min(*at))
    }

    /// Writes the packets of a burst.
    pub(super) fn write(&self, burst: Burst, transmit: &mut Transmit) {
        match burst {
            Burst::Oack | Burst::UnrequestedOack => {
                let oack = self.oack.as_deref().unwrap_or_default();
                transmit.put_datagrams(oack.len(), |out| out.extend_from_slice(oack));
            }
            Burst::Blocks { first, last } => self.blocks.write_to(first, last, transmit),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.blocks.file_len() as u64
    }

    pub(super) fn options(&self) -> NegotiatedOptions {
        self.options
    }

    pub(super) fn acked_blocks(&self) -> u64 {
        self.last_acked
    }

    pub(super) fn retransmissions(&self) -> u64 {
        self.retransmissions
    }

    fn handle_ack(&mut self, block: u16, now: Instant) -> Step {
        let ahead = u64::from(block.wrapping_sub(self.last_acked as u16));
        if self.oack.is_some() {
            if ahead != 0 {
                return Step::Wait;
            }
            self.oack = None;
            self.record_progress(now, true);
            self.windows_for_ack = 1;
            return Step::Send(self.advance(now));
        }
        if ahead > self.last_sent - self.last_acked {
            return Step::Wait;
        }
        self.last_acked += ahead;
        let acks_whole_burst = self.last_acked == self.last_sent;
        if ahead > 0 {
            self.record_progress(now, acks_whole_burst);
            if self.last_acked == self.last_block {
                return Step::End(TransferEnd::Complete);
            }
            if acks_whole_burst {
                self.windows_for_ack = 1;
                return Step::Send(self.advance(now));
            }
        }
        self.handle_partial_ack(ahead > 0, now)
    }

    /// Handles an ACK inside the window: the block after it is lost, or only late.
    /// <https://www.rfc-editor.org/rfc/rfc7440#section-4>
    fn handle_partial_ack(&mut self, is_progress: bool, now: Instant) -> Step {
        let may_answer_burst = now.duration_since(self.burst_sent_at) >= self.rtt.min_response_time();
        let may_rewind = !self.has_rewound && self.windows_for_ack < MAX_WINDOWS_PER_ACK;
        if self.options.window_size > 1 && may_rewind && may_answer_burst {
            self.has_rewound = true;
            self.windows_for_ack += 1;
            return Step::Send(self.retransmit(now));
        }
        if is_progress && self.last_sent < self.window_end() {
            return Step::Send(self.advance(now));
        }
        Step::Wait
    }

    fn record_progress(&mut self, now: Instant, acks_whole_burst: bool) {
        if acks_whole_burst && self.burst_is_new {
            self.rtt.update(now.duration_since(self.burst_sent_at));
        }
        self.rtt.reset_back_off();
        self.has_response = true;
        self.last_progress_at = now;
        self.has_rewound = false;
        self.windows_for_ack = 0;
        self.doubtful_end = None;
    }

    /// Returns the next blocks that fit into the window.
    fn advance(&mut self, now: Instant) -> Burst {
        let burst = Burst::Blocks { first: self.last_sent + 1, last: self.window_end() };
        // Blocks still in flight may be retransmissions.
        self.burst_is_new = self.last_sent == self.last_acked;
        self.burst_sent_at = now;
        self.last_sent = self.window_end();
        burst
    }

    /// Returns all unacknowledged blocks and the rest of the window.
    fn retransmit(&mut self, now: Instant) -> Burst {
        self.burst_sent_at = now;
        self.burst_is_new = false;
        if self.oack.is_some() {
            self.retransmissions += 1;
            return Burst::Oack;
        }
        self.retransmissions += self.last_sent - self.last_acked;
        self.last_sent = self.window_end();
        Burst::Blocks { first: self.last_acked + 1, last: self.last_sent }
    }

    fn window_end(&self) -> u64 {
        self.last_block.min(self.last_acked + u64::from(self.options.window_size))
    }

    fn is_all_sent(&self) -> bool {
        self.last_sent == self.last_block
    }

    fn retransmit_at(&self) -> Instant {
        let rto = if self.has_response { self.rtt.rto() } else { self.rtt.unanswered_rto() };
        self.burst_sent_at + rto
    }

    fn give_up_at(&self) -> Instant {
        let timeout = if self.is_all_sent() { self.linger_timeout } else { self.stall_timeout };
        self.expires_at.min(self.last_progress_at + timeout)
    }

    fn error_outcome(&self, code: u16, message: &[u8]) -> TransferEnd {
        if self.oack.is_some() && self.options.size_requested {
            return TransferEnd::Probe;
        }
        TransferEnd::Aborted { code, message: String::from_utf8_lossy(message).into_owned() }
    }
}
