//! [`BootWindow`]: the time after a power-on by volboot in which the machine gets its boot scripts, if `[boot] window` is set.
//!
//! volboot opens the window of a node with a BMC when it switches the machine on. The first boot session that a card of the
//! node begins claims the window, and keeps it for all tries. A report of *hooked* ends the window for every other session: the
//! volume may fail to start, and then the session asks again while the time lasts. A report of *up* ends it for that session,
//! too. With `[boot] window_reboot`, each report of *up* permits one further boot session.
//!
//! The rules are pure. Times are those of the clocks of the instances, so that they need the same time to about a second.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// What an extended window adds to a wait: the time of the next request, in seconds.
const REQUEST_SECONDS: u32 = 15;

/// `[boot] window` and `window_reboot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootWindowPolicy {
    /// The duration of a window.
    pub duration: Duration,
    /// Whether a machine that has reported *up* may boot once more without a power-on by volboot.
    pub reboot: bool,
}

/// A node's boot window. There is one record per node, from its first power-on by volboot on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootWindow {
    /// When volboot switched the machine on; after a reboot of the operating system, when the boot session began.
    pub opened_at: Timestamp,
    /// By how many seconds waits have extended the window.
    #[serde(default)]
    pub extension: u32,
    /// The boot session that claimed the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journey: Option<String>,
    /// How far the boot has come.
    #[serde(default)]
    pub stage: BootWindowStage,
    /// Whether the BMC was to boot the machine from the network, and no card of the node has sent a request yet.
    #[serde(default)]
    pub awaits_request: bool,
}

/// The stages of a boot window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootWindowStage {
    /// The machine may boot.
    #[default]
    Open,
    /// The machine has reported its volumes hooked.
    Hooked,
    /// The operating system has reported that it is up.
    Up,
}

/// Why a machine gets no boot script outside of its boot window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootWindowRefusal {
    /// volboot has not switched the machine on.
    NotOpened,
    /// The request belongs to no boot session.
    NoSession,
    /// Another boot session has claimed the window.
    OtherSession,
    /// The machine is up, or has hooked its volumes in another session.
    Ended,
    /// The time is over.
    Expired,
}

impl BootWindowPolicy {
    /// Judges a boot request of the node's own card, at a time. `journey` is the boot session of the request. Returns the
    /// window that the request claims, to be written; `None` if the request belongs to the session that has claimed it.
    pub fn judge(
        self,
        window: Option<&BootWindow>,
        journey: Option<&str>,
        now: Timestamp,
    ) -> Result<Option<BootWindow>, BootWindowRefusal> {
        let window = window.ok_or(BootWindowRefusal::NotOpened)?;
        let journey = journey.ok_or(BootWindowRefusal::NoSession)?;
        let is_claimant = window.journey.as_deref() == Some(journey);
        match window.stage {
            BootWindowStage::Up if self.reboot && !is_claimant => {
                return Ok(Some(BootWindow {
                    journey: Some(journey.to_owned()),
                    ..BootWindow::open(now, false)
                }));
            }
            BootWindowStage::Up => return Err(BootWindowRefusal::Ended),
            BootWindowStage::Hooked if !is_claimant => return Err(BootWindowRefusal::Ended),
            BootWindowStage::Open | BootWindowStage::Hooked if now > window.end(self) => {
                return Err(BootWindowRefusal::Expired);
            }
            BootWindowStage::Open | BootWindowStage::Hooked => {}
        }
        match &window.journey {
            Some(_) if is_claimant => Ok(None),
            Some(_) => Err(BootWindowRefusal::OtherSession),
            None => {
                let journey = Some(journey.to_owned());
                Ok(Some(BootWindow { journey, awaits_request: false, ..window.clone() }))
            }
        }
    }
}

impl BootWindow {
    /// A window that opens now.
    pub const fn open(now: Timestamp, awaits_request: bool) -> Self {
        Self { opened_at: now, extension: 0, journey: None, stage: BootWindowStage::Open, awaits_request }
    }

    /// The window's last moment.
    fn end(&self, policy: BootWindowPolicy) -> Timestamp {
        let duration = SignedDuration::try_from(policy.duration).unwrap_or(SignedDuration::MAX);
        let extension = SignedDuration::from_secs(self.extension.into());
        self.opened_at.saturating_add(duration.saturating_add(extension)).unwrap_or(Timestamp::MAX)
    }

    /// Extends the window by a wait that volboot imposes on the session that has claimed it.
    #[must_use]
    pub fn extended(&self, seconds: u32) -> Self {
        let wait = seconds.saturating_add(REQUEST_SECONDS);
        Self { extension: self.extension.saturating_add(wait), ..self.clone() }
    }

    /// This record again, in place of the window of a power-on that the BMC refused. A report that came meanwhile is kept:
    /// the machine runs on.
    #[must_use]
    pub fn restored(&self, refused: &Self) -> Self {
        self.ended(refused.stage).unwrap_or_else(|| self.clone())
    }

    /// Ends the window; `None` if it has ended so already. *Up* is not taken back by a late *hooked*.
    pub fn ended(&self, stage: BootWindowStage) -> Option<Self> {
        let is_later = matches!(
            (self.stage, stage),
            (BootWindowStage::Open, BootWindowStage::Hooked | BootWindowStage::Up)
                | (BootWindowStage::Hooked, BootWindowStage::Up)
        );
        is_later.then(|| Self { stage, ..self.clone() })
    }
}

impl BootWindowRefusal {
    /// All refusals.
    pub const ALL: [Self; 5] =
        [Self::NotOpened, Self::NoSession, Self::OtherSession, Self::Ended, Self::Expired];

    /// The label for metrics.
    pub const fn as_label(self) -> &'static str {
        match self {
            Self::NotOpened => "not_opened",
            Self::NoSession => "no_session",
            Self::OtherSession => "other_session",
            Self::Ended => "ended",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for BootWindowRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match self {
            Self::NotOpened => "volboot has not switched the machine on",
            Self::NoSession => "the request belongs to no boot session",
            Self::OtherSession => "another boot session has begun since volboot switched the machine on",
            Self::Ended => "the machine has booted since volboot switched it on",
            Self::Expired => "the time after the power-on is over",
        };
        write!(
            f,
            "outside of the boot window ([boot] window): {cause}; `volboot power reboot` opens a new one"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BootWindowRefusal::{Ended, Expired, NoSession, NotOpened, OtherSession};
    use BootWindowStage::{Hooked, Open, Up};

    const POLICY: BootWindowPolicy = BootWindowPolicy { duration: Duration::from_secs(900), reboot: false };
    const WITH_REBOOT: BootWindowPolicy = BootWindowPolicy { reboot: true, ..POLICY };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).expect("a time")
    }

    fn window(journey: Option<&str>, stage: BootWindowStage) -> BootWindow {
        BootWindow { journey: journey.map(str::to_owned), stage, ..BootWindow::open(at(0), true) }
    }

    /// "claims", "belongs", or the refusal.
    fn judge(
        policy: BootWindowPolicy,
        window: Option<&BootWindow>,
        journey: Option<&str>,
        seconds: i64,
    ) -> &'static str {
        match policy.judge(window, journey, at(seconds)) {
            Ok(Some(claimed)) => {
                assert_eq!((claimed.journey.as_deref(), claimed.stage), (journey, Open));
                "claims"
            }
            Ok(None) => "belongs",
            Err(refusal) => refusal.as_label(),
        }
    }

    #[test]
    fn each_request_is_judged_by_the_window_its_session_and_the_time() {
        let unclaimed = window(None, Open);
        let claimed = window(Some("a1"), Open);
        let hooked = window(Some("a1"), Hooked);
        for (case, window, journey, seconds, expected) in [
            ("never switched on", None, Some("a1"), 0, NotOpened.as_label()),
            ("first session", Some(&unclaimed), Some("a1"), 899, "claims"),
            ("first session, by a clock that is behind", Some(&unclaimed), Some("a1"), -2, "claims"),
            ("first session, too late", Some(&unclaimed), Some("a1"), 901, Expired.as_label()),
            ("no session", Some(&unclaimed), None, 1, NoSession.as_label()),
            ("a further try", Some(&claimed), Some("a1"), 899, "belongs"),
            ("a further try, too late", Some(&claimed), Some("a1"), 901, Expired.as_label()),
            ("another session", Some(&claimed), Some("a2"), 1, OtherSession.as_label()),
            ("a wait of a minute", Some(&claimed.extended(60)), Some("a1"), 975, "belongs"),
            ("after a wait of a minute", Some(&claimed.extended(60)), Some("a1"), 976, Expired.as_label()),
            ("hooked, and the volume did not start", Some(&hooked), Some("a1"), 899, "belongs"),
            ("hooked, too late", Some(&hooked), Some("a1"), 901, Expired.as_label()),
            ("hooked, no session", Some(&hooked), None, 1, NoSession.as_label()),
            ("hooked, unclaimed", Some(&window(None, Hooked)), Some("a1"), 1, Ended.as_label()),
            ("hooked, another session", Some(&hooked), Some("a2"), 1, Ended.as_label()),
            ("up", Some(&window(Some("a1"), Up)), Some("a1"), 1, Ended.as_label()),
            ("up, another session", Some(&window(Some("a1"), Up)), Some("a2"), 1, Ended.as_label()),
        ] {
            assert_eq!(judge(POLICY, window, journey, seconds), expected, "{case}");
        }
    }

    #[test]
    fn with_window_reboot_each_report_of_up_permits_one_further_session() {
        let up = window(Some("a1"), Up);
        let day = 86_400;
        assert_eq!(judge(WITH_REBOOT, Some(&up), Some("a1"), 1), Ended.as_label(), "the same session");
        assert_eq!(judge(WITH_REBOOT, Some(&up), Some("a2"), day), "claims");
        assert_eq!(judge(WITH_REBOOT, Some(&window(Some("a1"), Hooked)), Some("a2"), 1), Ended.as_label());
        let again = WITH_REBOOT.judge(Some(&up), Some("a2"), at(day)).expect("is permitted").expect("claims");
        assert_eq!(judge(WITH_REBOOT, Some(&again), Some("a2"), day + 899), "belongs");
        assert_eq!(judge(WITH_REBOOT, Some(&again), Some("a2"), day + 901), Expired.as_label());
        assert_eq!(judge(WITH_REBOOT, Some(&again), Some("a3"), day + 1), OtherSession.as_label());
    }

    #[test]
    fn reports_end_the_window_and_up_stays() {
        let stage = |before, report| window(None, before).ended(report).map(|window| window.stage);
        for (before, report, after) in [
            (Open, Hooked, Some(Hooked)),
            (Open, Up, Some(Up)),
            (Hooked, Up, Some(Up)),
            (Hooked, Hooked, None),
            (Up, Hooked, None),
            (Up, Up, None),
            (Hooked, Open, None),
        ] {
            assert_eq!(stage(before, report), after, "{before:?} {report:?}");
        }
    }

    #[test]
    fn a_record_is_restored_with_the_reports_since() {
        let stage = |before, meanwhile| window(Some("a1"), before).restored(&window(Some("a2"), meanwhile));
        for (before, meanwhile, after) in
            [(Up, Open, Up), (Hooked, Up, Up), (Open, Open, Open), (Up, Hooked, Up)]
        {
            assert_eq!(stage(before, meanwhile), window(Some("a1"), after), "{before:?} {meanwhile:?}");
        }
    }
}
