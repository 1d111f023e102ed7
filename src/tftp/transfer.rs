//! One transfer: packets and the time in, what to send and the next deadline out.
//!
//! ```text
//!             options asked                         ACK 0
//! request ──────────────────► OACK sent ────────────────────────┐
//!    │                        │  ERROR: probe                   ▼
//!    └─ no options ───────────┼──────────────────────► blocks in flight ──► last ACK: complete
//!                             ▼                        ERROR: aborted
//!                        no answer: resend, then give up
//! ```
//!
//! Implements the sender of RFC 1350 §4 and §6 and RFC 7440 §4. Three rules keep duplicates from multiplying (the
//! Sorcerer's Apprentice, RFC 1123 §4.2.3.1) while a lost block still costs one round trip only:
//!
//! * without windows only the timer sends again, never a duplicate ACK;
//! * with windows an ACK inside the window rewinds to the block after it, but once for each distinct ACK:
//!   UEFI firmware sends the same ACK for every packet that came out of order;
//! * an ACK that comes sooner after a burst than any answer could is no word about that burst.
//!
//! Invariant: `acked <= sent <= acked + window`, and `acked` never goes back. Block numbers count from 1 in 64 bits; the
//! wire's 16 bits wrap to 0, which is what iPXE, EDK2 and U-Boot expect.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cut::Cut;
use super::pace::Pace;
use super::packet::Answer;
use super::parcel::Parcel;
use super::{Agreed, Limits, Outcome};

/// One file on its way to one client.
#[derive(Debug)]
pub(super) struct Transfer {
    file: Arc<Cut>,
    agreed: Agreed,
    /// Until the client has answered it.
    oack: Option<Box<[u8]>>,
    /// Number of the last block, which is shorter than the others and may be empty.
    last: u64,
    /// Every block up to this one has arrived.
    acked: u64,
    /// Blocks after this one were never sent.
    sent: u64,
    answered: bool,
    /// The blocks after `acked` were sent again already.
    rewound: bool,
    /// When something was sent last, and whether all of it for the first time.
    burst_at: Instant,
    burst_is_new: bool,
    pace: Pace,
    /// When the client was last seen to come further.
    progress_at: Instant,
    stall: Duration,
    linger: Duration,
    total_end: Instant,
    retransmissions: u64,
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this, see [`Transfer::write`].
    Send(Burst),
    /// Nothing until the deadline.
    Wait,
    /// The transfer is over.
    End(Outcome),
}

/// What goes out at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Burst {
    /// The option acknowledgement.
    Oack,
    /// These blocks, both included.
    Blocks {
        /// First block.
        first: u64,
        /// Last block.
        last: u64,
    },
}

impl Transfer {
    /// A transfer and what it begins with.
    pub(super) fn begin(
        file: Arc<Cut>,
        agreed: Agreed,
        oack: Option<Vec<u8>>,
        limits: &Limits,
        now: Instant,
    ) -> (Self, Burst) {
        let patience = agreed.timeout.map_or(Duration::ZERO, |timeout| timeout * 3);
        let mut transfer = Self {
            last: file.len() as u64 / u64::from(agreed.block_size) + 1,
            file,
            oack: oack.map(Vec::into_boxed_slice),
            acked: 0,
            sent: 0,
            answered: false,
            rewound: false,
            burst_at: now,
            burst_is_new: true,
            pace: Pace::new(limits, agreed.timeout),
            progress_at: now,
            stall: limits.stall.max(patience),
            linger: limits.linger.max(patience),
            total_end: now + limits.total,
            retransmissions: 0,
            agreed,
        };
        let burst = if transfer.oack.is_some() { Burst::Oack } else { transfer.advance(now) };
        (transfer, burst)
    }

    /// The client said this.
    pub(super) fn receive(&mut self, packet: &[u8], now: Instant) -> Step {
        match Answer::parse(packet) {
            Some(Answer::Ack(block)) => self.receive_ack(block, now),
            Some(Answer::Error { code, message }) => Step::End(self.abort(code, message)),
            None => Step::Wait,
        }
    }

    /// The same request came again. Before any answer that is a client that did not see ours.
    pub(super) fn repeat(&mut self, now: Instant) -> Burst {
        self.resend(now)
    }

    /// Whether the client has answered anything yet.
    pub(super) fn is_answered(&self) -> bool {
        self.answered
    }

    /// When the client was last seen to come further.
    pub(super) fn progress_at(&self) -> Instant {
        self.progress_at
    }

    /// The deadline may have passed.
    pub(super) fn tick(&mut self, now: Instant) -> Step {
        if now >= self.gone_at() {
            let unconfirmed = self.answered && self.is_all_sent();
            return Step::End(if unconfirmed { Outcome::Unconfirmed } else { Outcome::TimedOut });
        }
        if now < self.resend_at() {
            return Step::Wait;
        }
        self.pace.no_answer();
        self.rewound = false;
        Step::Send(self.resend(now))
    }

    /// When to call [`Transfer::tick`].
    pub(super) fn deadline(&self) -> Instant {
        self.resend_at().min(self.gone_at())
    }

    /// Puts the packets of a burst into a parcel.
    pub(super) fn write(&self, burst: Burst, parcel: &mut Parcel) {
        match burst {
            Burst::Oack => {
                let oack = self.oack.as_deref().unwrap_or_default();
                parcel.put(oack.len(), |out| out.extend_from_slice(oack));
            }
            Burst::Blocks { first, last } => self.file.put(first, last, parcel),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.file.len() as u64
    }

    pub(super) fn agreed(&self) -> Agreed {
        self.agreed
    }

    pub(super) fn blocks(&self) -> u64 {
        self.acked
    }

    pub(super) fn retransmissions(&self) -> u64 {
        self.retransmissions
    }

    fn receive_ack(&mut self, block: u16, now: Instant) -> Step {
        let ahead = u64::from(block.wrapping_sub(self.acked as u16));
        if self.oack.is_some() {
            if ahead != 0 {
                return Step::Wait;
            }
            self.oack = None;
            self.note_progress(now, true);
            return Step::Send(self.advance(now));
        }
        if ahead > self.sent - self.acked {
            return Step::Wait;
        }
        self.acked += ahead;
        let answers_all = self.acked == self.sent;
        if ahead > 0 {
            self.note_progress(now, answers_all);
            if self.acked == self.last {
                return Step::End(Outcome::Complete);
            }
            if answers_all {
                return Step::Send(self.advance(now));
            }
        }
        self.receive_gap(ahead > 0, now)
    }

    /// An ACK inside the window: the block after it is lost, or just late.
    /// <https://www.rfc-editor.org/rfc/rfc7440#section-4>
    fn receive_gap(&mut self, progress: bool, now: Instant) -> Step {
        let may_answer_burst = now.duration_since(self.burst_at) >= self.pace.soonest_answer();
        if self.agreed.window > 1 && !self.rewound && may_answer_burst {
            self.rewound = true;
            return Step::Send(self.resend(now));
        }
        if progress && self.sent < self.window_end() {
            return Step::Send(self.advance(now));
        }
        Step::Wait
    }

    fn note_progress(&mut self, now: Instant, answers_all: bool) {
        if answers_all && self.burst_is_new {
            self.pace.measure(now.duration_since(self.burst_at));
        }
        self.pace.progress();
        self.answered = true;
        self.progress_at = now;
        self.rewound = false;
    }

    /// The next blocks that fit into the window.
    fn advance(&mut self, now: Instant) -> Burst {
        let burst = Burst::Blocks { first: self.sent + 1, last: self.window_end() };
        // What is in flight besides may have been sent twice.
        self.burst_is_new = self.sent == self.acked;
        self.burst_at = now;
        self.sent = self.window_end();
        burst
    }

    /// All that is not acknowledged, and the rest of the window.
    fn resend(&mut self, now: Instant) -> Burst {
        self.burst_at = now;
        self.burst_is_new = false;
        if self.oack.is_some() {
            self.retransmissions += 1;
            return Burst::Oack;
        }
        self.retransmissions += self.sent - self.acked;
        self.sent = self.window_end();
        Burst::Blocks { first: self.acked + 1, last: self.sent }
    }

    fn window_end(&self) -> u64 {
        self.last.min(self.acked + u64::from(self.agreed.window))
    }

    fn is_all_sent(&self) -> bool {
        self.sent == self.last
    }

    fn resend_at(&self) -> Instant {
        self.burst_at + self.pace.wait()
    }

    fn gone_at(&self) -> Instant {
        let patience = if self.is_all_sent() { self.linger } else { self.stall };
        self.total_end.min(self.progress_at + patience)
    }

    fn abort(&self, code: u16, message: &[u8]) -> Outcome {
        if self.oack.is_some() && self.agreed.size_asked {
            return Outcome::Probe;
        }
        Outcome::Aborted { code, message: String::from_utf8_lossy(message).into_owned() }
    }
}
