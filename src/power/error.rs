//! [`PowerError`]: why a power change or a change of the boot device failed, in one line.

use std::time::Duration;

use super::DriverInfoError;
use crate::model::PowerState;
use crate::redfish::RedfishError;

/// An operation on a BMC failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PowerError {
    /// Another operation on the node is under way.
    #[error("another operation on the node is under way")]
    Busy,
    /// The store granted no claim on the node.
    #[error("{0}")]
    Store(String),
    /// The claim has ended before the command, or during it.
    #[error("this instance lost its session in the store: another one may have taken over the node")]
    ClaimLost,
    /// The node's `driver_info` is invalid.
    #[error(transparent)]
    DriverInfo(#[from] DriverInfoError),
    /// The BMC fails.
    #[error(transparent)]
    Bmc(#[from] RedfishError),
    /// A command was accepted and had no effect.
    #[error(
        "BMC {bmc} accepted the command to {command}, but the machine was still {} after {} s",
        .state.map_or("in an unknown power state", PowerState::as_str), .limit.as_secs_f32().ceil()
    )]
    NoEffect {
        /// The BMC's address.
        bmc: String,
        /// The command.
        command: &'static str,
        /// The power state at the end.
        state: Option<PowerState>,
        /// The time limit.
        limit: Duration,
    },
    /// The machine went off by itself.
    #[error("BMC {bmc} switched the machine on, and it went off again by itself")]
    WentOff {
        /// The BMC's address.
        bmc: String,
    },
}
