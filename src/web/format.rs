//! Labels, severities, times and sizes, formatted for the pages.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cluster::{InstanceStatus, MissingEvents};
use crate::timeline::BootState;

/// The label of a boot state.
pub(super) fn state_label(state: BootState) -> &'static str {
    match state {
        BootState::Booting => "booting",
        BootState::Waiting => "waiting",
        BootState::Hooked => "hooked",
        BootState::HandedOver => "handed over",
        BootState::Booted => "booted",
        BootState::LocalDisk => "local disk",
        BootState::Retrying => "retrying",
        BootState::Stopped => "stopped",
        BootState::Looping => "boot loop",
        BootState::Unknown => "unknown",
    }
}

/// How serious a state or an event is. Selects the colour on the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    /// Not significant.
    Neutral,
    /// In progress.
    Info,
    /// Done.
    Success,
    /// May need attention.
    Warning,
    /// Failed.
    Error,
}

impl std::fmt::Display for Severity {
    /// The CSS class.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Neutral => "neutral",
            Self::Info => "info",
            Self::Success => "success",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// The severity of a boot state.
pub(super) fn state_severity(state: BootState) -> Severity {
    match state {
        BootState::Booted | BootState::HandedOver => Severity::Success,
        BootState::Booting | BootState::Hooked => Severity::Info,
        BootState::Waiting | BootState::Retrying | BootState::Unknown => Severity::Warning,
        BootState::Stopped | BootState::Looping => Severity::Error,
        BootState::LocalDisk => Severity::Neutral,
    }
}

/// An error as a sentence: capitalized, with a full stop.
pub(super) fn to_sentence(error: &impl std::fmt::Display) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}

/// Date and time in UTC: `2026-11-24 17:05:09`.
pub(super) fn date_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Time of day in UTC: `17:05:09`.
pub(super) fn time_of_day(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

/// RFC 3339 to the second, for the `datetime` attribute.
pub(super) fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Rounded age: `2 min ago`.
pub(super) fn time_ago(at: Timestamp, now: Timestamp) -> String {
    match now.duration_since(at).as_secs() {
        ..=1 => "just now".to_owned(),
        seconds @ 2..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7199 => format!("{} min ago", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86400),
    }
}

/// Time since the start of a boot session: `+4.2 s`.
pub(super) fn time_offset(start: Timestamp, at: Timestamp) -> String {
    let offset = at.duration_since(start).max(SignedDuration::ZERO);
    match offset.as_secs() {
        0..=59 => format!("+{:.1} s", offset.as_secs_f64()),
        seconds => format!("+{} min {} s", seconds / 60, seconds % 60),
    }
}

/// A duration in milliseconds: `4.2 s`, `1 min 20 s`.
pub(super) fn duration(milliseconds: u64) -> String {
    if milliseconds < 59_950 {
        return format!("{:.1} s", Duration::from_millis(milliseconds).as_secs_f64());
    }
    let seconds = (milliseconds + 500) / 1000;
    format!("{} min {} s", seconds / 60, seconds % 60)
}

/// Rounded size: `12 MB`.
pub(super) fn byte_size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes}\u{a0}bytes"),
        10_000..=9_999_999 => format!("{}\u{a0}kB", bytes / 1000),
        _ => format!("{}\u{a0}MB", bytes / 1_000_000),
    }
}

/// A number with its digits grouped by a narrow no-break space.
pub(super) fn grouped_number(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// What all timelines lack of an instance.
pub(super) fn missing_events(missing: &MissingEvents) -> String {
    let MissingEvents { instance, since, reason } = missing;
    format!("The events of {instance} since {} may be missing: {reason}.", date_time(*since))
}

/// An instance on the store, formatted for a page.
pub(super) struct InstanceRow {
    pub(super) name: String,
    pub(super) severity: Severity,
    pub(super) state: &'static str,
    pub(super) version: String,
    pub(super) since: String,
    pub(super) queue_length: u64,
    /// What is wrong with it, in sentences.
    pub(super) notes: Vec<String>,
}

/// The instances on the store; empty if there is one.
pub(super) fn instance_rows(instances: &[InstanceStatus]) -> Vec<InstanceRow> {
    let row = |instance: &InstanceStatus| {
        let differences = instance.differences.join(", ");
        let (severity, state) = match (instance.is_self, instance.answering) {
            (true, _) => (Severity::Success, "this one"),
            (false, false) => (Severity::Error, "does not answer"),
            (false, true) if differences.is_empty() => (Severity::Success, "answers"),
            (false, true) => (Severity::Warning, "differs"),
        };
        let problem = instance.problem.clone();
        let lost = instance.events_lost_at.map(|at| format!("events were lost before {}", date_time(at)));
        let differs = (!differences.is_empty()).then(|| format!("differs in {differences}"));
        InstanceRow {
            name: instance.name.to_string(),
            severity,
            state,
            version: instance.version.clone(),
            since: date_time(instance.started_at),
            queue_length: instance.queue_length,
            notes: [problem, differs, lost].into_iter().flatten().collect(),
        }
    };
    if instances.len() > 1 { instances.iter().map(row).collect() } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_numbers_are_short() {
        let start = Timestamp::from_second(1_800_000_000).expect("valid timestamp");
        let later = |millis| start + SignedDuration::from_millis(millis);
        for (millis, expected) in [
            (-5000, "just now"),
            (1999, "just now"),
            (2000, "2 s ago"),
            (120_000, "2 min ago"),
            (7_200_000, "2 h ago"),
            (172_800_000, "2 days ago"),
        ] {
            assert_eq!(time_ago(start, later(millis)), expected);
        }
        for (millis, expected) in [(-1, "+0.0 s"), (4230, "+4.2 s"), (61_000, "+1 min 1 s")] {
            assert_eq!(time_offset(start, later(millis)), expected);
        }
        for (bytes, expected) in [(0, "0\u{a0}bytes"), (10_000, "10\u{a0}kB"), (12_345_678, "12\u{a0}MB")] {
            assert_eq!(byte_size(bytes), expected);
        }
        let numbers = [7, 100, 1234, 10_000, 1_234_567].map(grouped_number);
        assert_eq!(numbers, ["7", "100", "1\u{202f}234", "10\u{202f}000", "1\u{202f}234\u{202f}567"]);
        assert_eq!(
            (date_time(start).as_str(), time_of_day(start).as_str()),
            ("2027-01-15 08:00:00", "08:00:00")
        );
        assert_eq!(rfc3339(start), "2027-01-15T08:00:00Z");
        for (millis, expected) in [(0, "0.0 s"), (4230, "4.2 s"), (59_949, "59.9 s"), (59_950, "1 min 0 s")] {
            assert_eq!(duration(millis), expected);
        }
    }
}
