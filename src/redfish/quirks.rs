//! Quirks: deviations of BMCs in the field, one row each with its source, and the decisions that they ask for.
//!
//! The decisions are pure. A decision names its quirk, so that the log tells which one applied. Where a source names no BMC,
//! the row says so: the deviation is handled because the source handles it.

use std::time::Duration;

use super::error::BmcFault;

/// A deviation of BMCs from the specification, or from its usual reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// A reset shortly after a power off is refused; a later one succeeds.
    ResetTooSoon,
    /// A reset is refused because the system is in the requested state.
    AlreadyInState,
    /// A read fails with 5xx, and succeeds a moment later.
    ReadFailsOnce,
    /// A session ends before its time-out, as at a restart of the BMC.
    SessionLost,
    /// All sessions of the BMC are taken.
    SessionsTaken,
    /// `On` is missing among the reset types.
    NoResetOn,
    /// `GracefulShutdown` is missing; the power button has the same effect.
    NoGracefulShutdown,
    /// The reset types are in a resource of their own.
    ActionInfo,
    /// The action has the name of Redfish 1.0's drafts.
    OldActionName,
    /// A change requires `If-Match`.
    EtagRequired,
    /// A change with the entity tag of the last read is refused.
    EtagMismatch,
    /// A change of the boot override without its mode resets the mode.
    ModeForgotten,
    /// The mode is not among the properties, and a change with it is refused.
    ModeUnknown,
    /// An override for all boots is refused.
    NoContinuous,
    /// The boot override is changed in the settings resource.
    SettingsResource,
    /// A change during the power-on self-test is refused.
    BusyInPost,
    /// An accepted boot override is not set.
    OverrideForgotten,
}

/// All quirks: the BMCs on which the source saw it, and the source.
pub const QUIRKS: [(Quirk, &str, &str); 17] = [
    (
        Quirk::ResetTooSoon,
        "iDRAC 10 (409), OpenBMC (503), iDRAC (SYS518), iLO (InvalidOperationForSystemState)",
        "Ironic redfish/power.py (_set_power_state), https://github.com/xcat2/xcat-core/issues/4264, sushy connector.py",
    ),
    (
        Quirk::AlreadyInState,
        "iLO 5; others are not named",
        "HPE iLO 5 message registry (InvalidOperationForSystemState), Ironic redfish/power.py (400 and 409 in the requested state)",
    ),
    (Quirk::ReadFailsOnce, "not named", "sushy connector.py (server_side_retries)"),
    (Quirk::SessionLost, "iDRAC 7 and 8", "https://github.com/bb-Ricardo/check_redfish/issues/90"),
    (
        Quirk::SessionsTaken,
        "iDRAC (IDRAC.2.1 and 2.4)",
        "https://github.com/stmcginnis/gofish/issues/75, https://github.com/bb-Ricardo/check_redfish/issues/89 (503, RAC0218)",
    ),
    (
        Quirk::NoResetOn,
        "not named",
        "DSP2046 Resource.ResetType (ForceOn, PushPowerButton): each of the values is optional",
    ),
    (
        Quirk::NoGracefulShutdown,
        "HPE iLO",
        "https://github.com/theforeman/smart-proxy modules/bmc/redfish/hpe.rb (PushPowerButton for a soft power off)",
    ),
    (Quirk::ActionInfo, "OpenBMC", "https://github.com/openbmc/bmcweb/pull/266 (@Redfish.ActionInfo)"),
    (
        Quirk::OldActionName,
        "Cisco UCS C220 M4 with CIMC 3.0",
        "answers that users published (#System.Reset with Target, Name UCS C220 M4S)",
    ),
    (
        Quirk::EtagRequired,
        "AMI MegaRAC (Lenovo SR655), Huawei iBMC",
        "https://github.com/stmcginnis/gofish/issues/171 (PreconditionHeaderMissing), https://github.com/stmcginnis/gofish/issues/174",
    ),
    (
        Quirk::EtagMismatch,
        "Lenovo XCC, Gigabyte, iDRAC 10 with compressed answers",
        "https://github.com/ansible-collections/community.general/issues/11261 and pull/6434, https://github.com/stmcginnis/gofish/pull/511",
    ),
    (Quirk::ModeForgotten, "Supermicro", "https://github.com/DMTF/Redfishtool/pull/106"),
    (
        Quirk::ModeUnknown,
        "Supermicro X10",
        "https://github.com/ironcore-dev/metal-operator/issues/982 (X10SRM-TF), pull/985",
    ),
    (
        Quirk::NoContinuous,
        "not named",
        "Ironic redfish/management.py (_set_boot_device: \"some vendors stopped supporting it\")",
    ),
    (
        Quirk::SettingsResource,
        "ASRock with AMI MegaRAC, iDRAC 10",
        "https://github.com/DMTF/Redfish-Tacklebox/issues/144 (OperationSupportedInFutureStateURI), https://github.com/stmcginnis/gofish/pull/511",
    ),
    (
        Quirk::BusyInPost,
        "HPE iLO",
        "Ironic redfish/management.py (_is_during_post_error), HPE iLO message registry (UnableToModifyDuringSystemPOST)",
    ),
    (
        Quirk::OverrideForgotten,
        "Supermicro AS-1015CS-TNR",
        "https://github.com/bmc-toolbox/bmclib internal/redfishwrapper (test of a silent downgrade of the mode)",
    ),
];

impl Quirk {
    /// Logs that the quirk applied to a BMC.
    pub(super) fn note(self, bmc: &str) {
        tracing::info!(bmc, quirk = ?self, "BMC quirk applied");
    }
}

/// The kind of a request, which decides about repetitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallKind {
    /// A read, which has no effect.
    Read,
    /// A reset action.
    Reset,
    /// A change of properties.
    Change,
}

/// Whether to repeat a failed request, and the pause before it as a number of units. `attempt` counts from 1.
pub(super) fn decide_repetition(kind: CallKind, fault: &BmcFault, attempt: u32) -> Option<(Quirk, u32)> {
    let BmcFault::Refused { status, ids, message, .. } = fault else {
        return match fault {
            // A read without a response has no effect, and TCP resets of a busy BMC pass.
            BmcFault::Interrupted(_) if kind == CallKind::Read && attempt < 3 => {
                Some((Quirk::ReadFailsOnce, 2))
            }
            _ => None,
        };
    };
    let says = |word: &str| ids.contains(word) || message.contains(word);
    match (kind, status) {
        (CallKind::Read, 500..=599) if attempt < 3 => Some((Quirk::ReadFailsOnce, 2)),
        (CallKind::Reset, 409 | 503) if attempt < 12 => Some((Quirk::ResetTooSoon, 5)),
        (CallKind::Reset, 400 | 500)
            if attempt < 12 && (says("SYS518") || says("InvalidOperationForSystemState")) =>
        {
            Some((Quirk::ResetTooSoon, 5))
        }
        (CallKind::Change, 400) if attempt < 10 && says("UnableToModifyDuringSystemPOST") => {
            Some((Quirk::BusyInPost, 10))
        }
        (CallKind::Change, 409 | 503) if attempt < 4 => Some((Quirk::ResetTooSoon, 5)),
        _ => None,
    }
}

/// Whether a refused reset may mean that the system is in the requested state.
pub(super) fn may_be_in_state(fault: &BmcFault) -> bool {
    matches!(fault.status(), Some(400 | 409))
}

/// The values of `If-Match` to try in turn; `None` is a request without the header.
pub(super) fn list_etags(etag: Option<&str>) -> Vec<Option<String>> {
    match etag.filter(|etag| !etag.is_empty()) {
        // A weak tag is of no use in If-Match (RFC 9110 §13.1.1), and some BMCs give no other.
        Some(weak) if weak.starts_with("W/") => vec![Some(weak.into()), Some(weak[2..].into()), None],
        Some(strong) => vec![Some(strong.into()), None],
        None => vec![None, Some("*".into())],
    }
}

/// Whether to try the next value of `If-Match`.
pub(super) fn wants_other_etag(fault: &BmcFault) -> Option<Quirk> {
    match fault.status()? {
        412 => Some(Quirk::EtagMismatch),
        428 => Some(Quirk::EtagRequired),
        _ => None,
    }
}

/// Whether a refused override for all boots is to be replaced by one for the next boot.
pub(super) fn wants_once(fault: &BmcFault) -> bool {
    matches!(fault.status(), Some(400 | 405 | 409 | 422 | 500 | 501))
}

/// The pause before a repetition.
pub(super) fn pause_of(unit: Duration, count: u32) -> Duration {
    unit.saturating_mul(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, ids: &str) -> BmcFault {
        BmcFault::Refused { request: "POST /".into(), status, message: String::new(), ids: ids.into() }
    }

    #[test]
    fn each_quirk_has_a_row_and_a_source() {
        for (at, (quirk, seen, source)) in QUIRKS.iter().enumerate() {
            assert_eq!(QUIRKS.iter().position(|(other, ..)| other == quirk), Some(at), "{quirk:?}");
            assert!(!seen.is_empty() && !source.is_empty(), "{quirk:?}");
        }
    }

    #[test]
    fn repetitions_depend_on_request_status_and_message() {
        use CallKind::{Change, Read, Reset};
        for (kind, fault, attempt, expected) in [
            (Read, refused(503, ""), 1, Some(Quirk::ReadFailsOnce)),
            (Read, refused(503, ""), 3, None),
            (Read, refused(404, ""), 1, None),
            (Read, BmcFault::Interrupted("reset".into()), 2, Some(Quirk::ReadFailsOnce)),
            (Reset, BmcFault::Interrupted("reset".into()), 1, None),
            (Reset, refused(409, "Base.1.8.ActionParameterValueConflict"), 1, Some(Quirk::ResetTooSoon)),
            (Reset, refused(503, ""), 11, Some(Quirk::ResetTooSoon)),
            (Reset, refused(503, ""), 12, None),
            (Reset, refused(400, "IDRAC.2.8.SYS518"), 1, Some(Quirk::ResetTooSoon)),
            (Reset, refused(400, "iLO.2.14.InvalidOperationForSystemState"), 1, Some(Quirk::ResetTooSoon)),
            (Reset, refused(400, "Base.1.8.ActionParameterNotSupported"), 1, None),
            (Change, refused(400, "iLO.2.14.UnableToModifyDuringSystemPOST"), 1, Some(Quirk::BusyInPost)),
            (Change, refused(400, ""), 1, None),
            (Change, refused(503, ""), 3, Some(Quirk::ResetTooSoon)),
            (Change, BmcFault::TimedOut(Duration::ZERO), 1, None),
        ] {
            let decided = decide_repetition(kind, &fault, attempt).map(|(quirk, _)| quirk);
            assert_eq!(decided, expected, "{kind:?} {fault} {attempt}");
        }
    }

    #[test]
    fn entity_tags_are_tried_from_the_strictest_to_none() {
        let tags = |etag| list_etags(etag).into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
        assert_eq!(tags(Some("W/\"1\"")), ["W/\"1\"", "\"1\"", ""]);
        assert_eq!(tags(Some("\"1\"")), ["\"1\"", ""]);
        assert_eq!(tags(None), ["", "*"]);
        assert_eq!(tags(Some("")), ["", "*"]);
        assert_eq!(wants_other_etag(&refused(412, "")), Some(Quirk::EtagMismatch));
        assert_eq!(wants_other_etag(&refused(428, "")), Some(Quirk::EtagRequired));
        assert_eq!(wants_other_etag(&refused(400, "")), None);
    }
}
