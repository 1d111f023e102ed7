//! Sentences for faults of portals and volumes, with the words of the error that iPXE would report.

use std::io::ErrorKind;

use super::portal::ProbeError;
use crate::iscsi::{CommandFault, Error, LoginRefusal, SenseData};
use crate::telemetry::errno;

/// A fault of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathFault {
    /// The cause; follows a colon.
    pub(super) cause: String,
    /// What to do, in sentences.
    pub(super) advice: String,
    /// Whether the machine meets the same fault. The machine may reach portals that are out of this host's reach.
    pub(super) is_certain: bool,
}

impl PathFault {
    /// A fault that iPXE reports with this error number.
    fn of_ipxe(number: u32, is_certain: bool) -> Self {
        let meaning = errno::meaning(&format!("{number:x}"));
        let (cause, advice) =
            meaning.map_or(("unknown error", ""), |meaning| (meaning.cause, meaning.advice));
        Self { cause: cause.to_owned(), advice: advice.to_owned(), is_certain }
    }

    fn unsure(cause: String) -> Self {
        Self { cause, advice: "Check the storage's log.".to_owned(), is_certain: false }
    }
}

/// Describes why a login failed.
pub(super) fn describe_login(failure: &ProbeError) -> PathFault {
    let fault = match &*failure.error {
        Error::Connect(error) => match error.kind() {
            ErrorKind::ConnectionRefused => PathFault::of_ipxe(0x0f0a_6000, false),
            ErrorKind::TimedOut => PathFault::of_ipxe(0x4c0a_6000, false),
            _ => PathFault {
                cause: format!("no connection: {error}"),
                advice: "Check the route from this host to the storage network, or the name of the portal."
                    .to_owned(),
                is_certain: false,
            },
        },
        Error::TimedOut => PathFault::of_ipxe(0x4c0a_6000, false),
        Error::CredentialsRequired => PathFault::of_ipxe(0x430d_6600, true),
        Error::Refused(refusal) => describe_refusal(*refusal),
        error => PathFault::unsure(error.to_string()),
    };
    if failure.is_remembered {
        let cause = format!("{}; refused less than a minute ago, not repeated", fault.cause);
        return PathFault { cause, ..fault };
    }
    fault
}

fn describe_refusal(refusal: LoginRefusal) -> PathFault {
    let number = match (refusal.class, refusal.detail) {
        (2, 1) => 0x410d_6100,
        (2, 2) => 0x410d_6200,
        (2, 3 | 4) => 0x2c0d_6000,
        (3, 1) => 0x1d0d_6100,
        (3, 2) => 0x1d0d_6200,
        _ => {
            return PathFault {
                is_certain: !refusal.is_transient(),
                ..PathFault::unsure(refusal.to_string())
            };
        }
    };
    let fault = PathFault::of_ipxe(number, !refusal.is_transient());
    let mut advice = fault.advice;
    if refusal == LoginRefusal::NOT_FOUND {
        advice += " A target may also hide from initiators outside its access list (ACL): compare the node's iqn connector.";
    }
    if refusal == LoginRefusal::AUTHORIZATION || refusal == LoginRefusal::NOT_FOUND {
        advice += " An access list of addresses may refuse this host and admit the machine.";
    }
    let cause = format!("{} (iSCSI login status {:02x}{:02x})", fault.cause, refusal.class, refusal.detail);
    PathFault { cause, advice, ..fault }
}

/// Describes why a logical unit cannot be used.
pub(super) fn describe_unit(failure: &ProbeError) -> PathFault {
    match &*failure.error {
        Error::Command(CommandFault::NoLogicalUnit) => PathFault::of_ipxe(0x1d70_4500, true),
        Error::Command(CommandFault::Check(SenseData { key: 2, .. })) => {
            PathFault::of_ipxe(0x1d70_4200, false)
        }
        Error::Command(fault @ CommandFault::ReservationConflict) => PathFault {
            cause: fault.to_string(),
            advice: "If no session of this node's machine holds the reservation, release it at the storage."
                .to_owned(),
            is_certain: false,
        },
        error => PathFault::unsure(error.to_string()),
    }
}
