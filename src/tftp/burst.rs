//! What a transfer does next: a burst of packets, nothing, or its end.
//!
//! The state machine in `transfer` decides, and the table writes a burst to a [`Transmit`](super::transmit::Transmit).

use super::TransferEnd;

/// The next action of a transfer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this burst, see [`Transfer::write`](super::transfer::Transfer::write).
    Send(Burst),
    /// Send nothing until the deadline.
    Wait,
    /// The transfer has ended.
    End(TransferEnd),
}

/// Packets sent together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Burst {
    /// The option acknowledgement, in response to a request.
    Oack,
    /// The same, sent again by the timer.
    UnrequestedOack,
    /// A range of blocks, both ends included.
    Blocks {
        /// First block.
        first: u64,
        /// Last block.
        last: u64,
    },
}

impl Burst {
    /// The first block alone.
    pub(super) const FIRST_BLOCK: Self = Self::Blocks { first: 1, last: 1 };
}
