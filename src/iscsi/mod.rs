//! iSCSI initiator (RFC 7143), read only: examines the logical unit behind a portal, and reads its blocks.
//!
//! | file | purpose |
//! |---|---|
//! | `pdu` | protocol data units: format, and a decoder for a stream of bytes |
//! | `text` | `key=value` pairs of the login |
//! | `chap` | response to a CHAP challenge |
//! | `login` | parameters of a login, and the reasons for which a target refuses it |
//! | `negotiation` | state machine of a login: text in, text out |
//! | `initiator` | state machine of a session: bytes in, bytes out |
//! | `scsi` | SCSI commands, their data and their errors |
//! | `session` | the driver: one TCP connection with deadlines |
//!
//! All files but the last own no socket and read no clock.
//!
//! The login offers what iPXE offers, so a target treats both alike: CHAP with MD5 and without mutual authentication, and
//! no digests. A session never reinstates another session of the same initiator name, since its ISID is random and of type
//! *random* (RFC 7143 §11.12.5, T = 10b).
//!
//! Only the commands of [`ScsiCommand`] exist: none writes, reserves or resets anything. One command is under way at a time.
//!
//! crates.io has one initiator, `iscsi-client-rs` 0.0.9. Its licence is AGPL-3.0-or-later, its connections belong to a pool
//! with configuration files, and its ISID is fixed in these. The Rust bindings of libiscsi are gone from the registry.

mod chap;
mod initiator;
mod login;
mod negotiation;
mod pdu;
mod scsi;
mod session;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
mod text;

pub use login::{Isid, LoginParameters, LoginRefusal};
pub use scsi::{CommandFault, LogicalUnit, ScsiCommand, SenseData};
pub use session::IscsiSession;

use std::io;

/// The longest data segment that the initiator accepts, announced as `MaxRecvDataSegmentLength`.
const MAX_SEGMENT: usize = 64 * 1024;

/// Why a session cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection to the portal.
    #[error("{0}")]
    Connect(io::Error),
    /// The TCP connection failed later.
    #[error("the connection failed: {0}")]
    Io(io::Error),
    /// The target closed the connection.
    #[error("the target closed the connection")]
    Closed,
    /// The deadline passed.
    #[error("no answer in time")]
    TimedOut,
    /// The target refused the login.
    #[error("{0}")]
    Refused(LoginRefusal),
    /// The target requires CHAP, and the login has no credentials.
    #[error("the target requires CHAP credentials")]
    CredentialsRequired,
    /// The target named another portal for this login (RFC 7143 §11.13.5, status class 1).
    #[error("the target redirects the login to {0}")]
    Redirected(String),
    /// The target violated the protocol.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The target ended the session, or asked for its end.
    #[error("the target ends the session")]
    Ended,
    /// A SCSI command failed.
    #[error("{0}")]
    Command(CommandFault),
}
