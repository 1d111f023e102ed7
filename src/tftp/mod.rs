//! The firmware's door: TFTP, read only (steps 2 and 3 of the journey).
//!
//! What is served is decided by whoever implements [`Files`], from memory and at once; this module knows names as
//! bytes, never a path of a file system. What happened is told by [`Event`]s into a bounded channel; this module
//! knows no timeline.

mod names;
mod serve;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

pub use serve::Listener;

/// What a client asked for.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest<'a> {
    /// The name, without what firmware wraps around it: no leading slash, `/` for `\`. Bytes, since it need not be
    /// text.
    pub name: &'a [u8],
    /// Who asks.
    pub client: SocketAddr,
    /// The address of ours at which the client reached us; `None` if it cannot be told.
    pub local: Option<IpAddr>,
}

/// The files behind the door. Must answer without waiting for anything.
pub trait Files: Send + Sync + 'static {
    /// The content of a file; `None` if there is no such file.
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes>;
}

/// What happened to one transfer, told when it ends.
#[derive(Debug, Clone)]
pub struct Event {
    /// Who asked.
    pub client: SocketAddr,
    /// The name asked for, as text for people: bytes that are none are replaced.
    pub name: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of the file.
    pub size: u64,
    /// From the request to the end.
    pub took: Duration,
}

/// How a transfer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The client was sent all of it.
    Complete,
    /// The client broke off, or was not heard of any more.
    Aborted,
    /// There is no such file.
    NotFound,
    /// Too many transfers at once.
    Busy,
}

impl Outcome {
    /// The word for logs and metrics: a closed set.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Aborted => "aborted",
            Self::NotFound => "not found",
            Self::Busy => "busy",
        }
    }
}
