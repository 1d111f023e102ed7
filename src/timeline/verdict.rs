//! [`Verdict`]: what became of a machine's last boot, in one line that a person can act on.
//!
//! *Script sent* is never *booted*: that a machine has its script proves nothing. That it reports its volumes hooked
//! proves its login and its disk; that it complains of nothing for three minutes after that means that its operating
//! system has most likely taken over; that it booted is said only if it says so itself.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::progress::{Failure, Progress, Stage};
use crate::telemetry::errno;

/// Whoever reads the same file so often in a row is not getting anywhere.
const LOADS: u32 = 3;
/// From the last file or the first script to the question for its own: iPXE takes a few seconds.
const TO_ASK: SignedDuration = SignedDuration::from_mins(1);
/// From its script to a report. iPXE gives up a silent target after some 16 s, and each volume may be one.
const TO_REPORT: SignedDuration = SignedDuration::from_mins(3);
/// Without a complaint for so long after its volumes were hooked, a machine has been handed over.
const TO_COMPLAIN: SignedDuration = SignedDuration::from_mins(3);
/// Beyond the time a waiting machine sleeps, this is how long it may take to ask again.
const TO_ASK_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// What it comes to: a closed set, for lists and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is on its way.
    Booting,
    /// It was told to wait.
    Waiting,
    /// Its volumes are hooked; whether it starts from them is not known yet.
    Hooked,
    /// Its volumes are hooked, and it has complained of nothing since.
    HandedOver,
    /// Its operating system says that it is up.
    Booted,
    /// It is meant to start from its own disk.
    LocalDisk,
    /// Something failed, and it tries again.
    Retrying,
    /// It did not get on.
    Stopped,
    /// It begins again and again, and never hooks its volume.
    Looping,
    /// Nobody has registered it.
    Unknown,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Booting,
        Self::Waiting,
        Self::Hooked,
        Self::HandedOver,
        Self::Booted,
        Self::LocalDisk,
        Self::Retrying,
        Self::Stopped,
        Self::Looping,
        Self::Unknown,
    ];

    /// The word for lists and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Waiting => "waiting",
            Self::Hooked => "hooked",
            Self::HandedOver => "handed_over",
            Self::Booted => "booted",
            Self::LocalDisk => "local_disk",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
            Self::Looping => "looping",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a machine's last boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In one word.
    pub state: State,
    /// In one line.
    pub text: String,
    /// What to do about it, if something is wrong and it is known what helps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Verdict {
    fn new(state: State, text: impl Into<String>) -> Self {
        Self { state, text: text.into(), advice: None }
    }

    fn advising(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }

    /// What a machine that has come so far has come to by now.
    pub fn of(progress: &Progress, now: Timestamp) -> Self {
        let verdict = settled(progress, now.duration_since(progress.at));
        // One that is on its way may get there yet, but it stands out until it does.
        let begins_again = progress.paced
            && matches!(
                verdict.state,
                State::Booting | State::Waiting | State::Retrying | State::Stopped | State::Looping
            );
        if !begins_again {
            return verdict;
        }
        let journeys = progress.journeys;
        let text = format!("began {journeys} times without ever hooking its volume; now: {}", verdict.text);
        Self { state: State::Looping, text, ..verdict }
    }
}

fn settled(progress: &Progress, since: SignedDuration) -> Verdict {
    match &progress.stage {
        Stage::Loaded { file, http } if progress.loads >= LOADS => {
            let (door, loads) = (door(*http), progress.loads);
            let text =
                format!("has read {file} over {door} {loads} times in a row, and never asked for a script");
            Verdict::new(State::Looping, text).advising(
                "DHCP most likely gives iPXE the file that it gives firmware. Whoever sends option 175 is iPXE, and must be \
                 given the script: the files in /usr/share/volboot/dhcp do so.",
            )
        }
        Stage::Loaded { file, http } if since < TO_ASK => {
            Verdict::new(State::Booting, format!("has read {file} over {}", door(*http)))
        }
        Stage::Loaded { file, http } => {
            let door = door(*http);
            let text =
                format!("stopped after it read {file} over {door}, because it never asked for a script");
            Verdict::new(State::Stopped, text).advising(
                "Look at the machine's console. If iPXE never appears, the file is for another firmware; if it does, DHCP \
                 must name the script for it, and the machine must reach the machines' door.",
            )
        }
        Stage::NotLoaded { file, outcome, http } => not_loaded(file, outcome, *http),
        Stage::Gathered if since < TO_ASK => {
            Verdict::new(State::Booting, "has read /boot.ipxe, and is about to ask for its own script")
        }
        Stage::Gathered => Verdict::new(
            State::Stopped,
            "stopped after it read /boot.ipxe, because it never asked for its own script",
        )
        .advising("Look at the machine's console: it tells the error with which it could not ask."),
        Stage::Answered { outcome, reason } => answered(outcome, reason, since),
        Stage::Sent { attempt } => sent(progress, *attempt, since),
        Stage::Failed => failed(progress),
        Stage::Hooked => hooked(progress, since),
        Stage::Up => {
            let took = seconds(progress.at.duration_since(progress.began));
            Verdict::new(State::Booted, format!("booted, {took} after it began"))
        }
    }
}

fn door(http: bool) -> &'static str {
    if http { "HTTP" } else { "TFTP" }
}

fn not_loaded(file: &str, outcome: &str, http: bool) -> Verdict {
    let (why, advice) = match outcome {
        "not found" => (
            "there is no such file",
            "Let DHCP name a file that is served: `volboot images` shows them, and which package brings what is missing.",
        ),
        "timed out" => (
            "it was not heard of any more",
            "Look for a firewall that lets only port 69 through, and for packets that are too large for the network.",
        ),
        "busy" => ("too many transfers run at once", "It asks again by itself."),
        "refused" => ("the request makes no sense", "volboot is read only: nothing can be written to it."),
        "stopped" => ("volboot was stopped", "It asks again by itself."),
        _ => ("it broke off", "Look at the machine's console, and at the words with which it broke off."),
    };
    Verdict::new(State::Stopped, format!("stopped at reading {file} over {}, because {why}", door(http)))
        .advising(advice)
}

fn answered(outcome: &str, reason: &str, since: SignedDuration) -> Verdict {
    match outcome {
        "local disk" => {
            Verdict::new(State::LocalDisk, format!("was sent to its local disk, because {reason}"))
        }
        "unknown" => Verdict::new(State::Unknown, format!("stopped at its question, because {reason}"))
            .advising("Enrol it: `volboot enroll`."),
        "wait" if since < TO_ASK_AGAIN => Verdict::new(State::Waiting, format!("waits, because {reason}")),
        "wait" => {
            let text =
                format!("stopped while it waited, because it never asked again; it waited because {reason}");
            Verdict::new(State::Stopped, text).advising("It was most likely switched off.")
        }
        _ => Verdict::new(State::Stopped, format!("stopped at its question, because {reason}")),
    }
}

fn sent(progress: &Progress, attempt: u32, since: SignedDuration) -> Verdict {
    match &progress.failure {
        Some(failure) if since < TO_REPORT => {
            let (text, advice) = complaint(progress, failure);
            let text = format!("stopped {text} (try {}); now at try {attempt}", failure.attempt);
            Verdict { state: State::Retrying, text, advice }
        }
        _ if since < TO_REPORT => {
            Verdict::new(State::Booting, "has its script; nothing is heard of its volumes yet")
        }
        _ => Verdict::new(
            State::Stopped,
            format!(
                "stopped after its script was sent, because nothing was heard for {}: neither a volume nor an error",
                seconds(TO_REPORT)
            ),
        )
        .advising("Look at the machine's console. It hangs, was switched off, or cannot reach volboot any more."),
    }
}

fn failed(progress: &Progress) -> Verdict {
    let Some(failure) = &progress.failure else {
        return Verdict::new(State::Stopped, "stopped, because something failed");
    };
    let (text, advice) = complaint(progress, failure);
    let (state, end) = if failure.attempt < progress.tries {
        (State::Retrying, format!("try {} of {}, and it tries again", failure.attempt, progress.tries))
    } else {
        (State::Stopped, format!("try {}, and it gave up", failure.attempt))
    };
    Verdict { state, text: format!("stopped {text} ({end})"), advice }
}

/// "at step X, because Y", and what to do.
fn complaint(progress: &Progress, failure: &Failure) -> (String, Option<String>) {
    let step = step(&failure.step, &progress.hooks);
    let Some(rc) = &failure.rc else { return (format!("at {step}, without an error number"), None) };
    let (why, advice) = because(rc);
    (format!("at {step}, {why}"), Some(advice))
}

/// Why a step failed, by iPXE's error number, and what to do.
pub(super) fn because(rc: &str) -> (String, String) {
    if let Some(meaning) = errno::meaning(rc) {
        return (format!("because {} [{rc}]", meaning.what), meaning.advice.to_owned());
    }
    let page = errno::page(rc).unwrap_or_else(|| "https://ipxe.org/err".to_owned());
    (format!("with iPXE's error {rc}"), format!("iPXE tells of its errors at {page}"))
}

/// A step as people call it.
pub(super) fn step(name: &str, hooks: &[String]) -> String {
    let at = name.strip_prefix("hook-").and_then(|at| at.parse::<usize>().ok());
    match (name, at.and_then(|at| hooks.get(at))) {
        (_, Some(volume)) => format!("connecting to volume {volume}"),
        ("boot", None) => "starting from its volume".to_owned(),
        _ if at.is_some() => "connecting to a volume".to_owned(),
        _ => name.to_owned(),
    }
}

fn hooked(progress: &Progress, since: SignedDuration) -> Verdict {
    let took = seconds(progress.at.duration_since(progress.began));
    if since < TO_COMPLAIN {
        return Verdict::new(State::Hooked, format!("hooked its volume, {took} after it began"));
    }
    let quiet = TO_COMPLAIN.as_mins();
    let text =
        format!("handed over: hooked its volume, {took} after it began, and no complaint in {quiet} min");
    Verdict::new(State::HandedOver, text)
}

fn seconds(duration: SignedDuration) -> String {
    format!("{} s", duration.as_secs().max(0))
}
