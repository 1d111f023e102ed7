//! How pages call things: states, times and sizes in a few words.

use jiff::{SignedDuration, Timestamp};

use crate::timeline::State;

/// A state in a word or two.
pub(super) fn state(state: State) -> &'static str {
    match state {
        State::Booting => "booting",
        State::Waiting => "waiting",
        State::Hooked => "hooked",
        State::HandedOver => "handed over",
        State::Booted => "booted",
        State::LocalDisk => "local disk",
        State::Retrying => "retrying",
        State::Stopped => "stopped",
        State::Looping => "boot loop",
        State::Unknown => "unknown",
    }
}

/// How it is to be taken: what colours stand for.
pub(super) fn mood(state: State) -> &'static str {
    match state {
        State::Booted | State::HandedOver => "good",
        State::Booting | State::Hooked => "busy",
        State::Waiting | State::Retrying | State::Unknown => "warn",
        State::Stopped | State::Looping => "bad",
        State::LocalDisk => "calm",
    }
}

/// A moment, for people: `2026-11-24 17:05:09`.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// The time of day, for people: `17:05:09`.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%S").to_string()
}

/// A moment, for programs, to the second.
pub(super) fn machine_readable(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How long ago something was, roughly.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.duration_since(at).as_secs() {
        ..=1 => "just now".to_owned(),
        seconds @ 2..=119 => format!("{seconds} s ago"),
        seconds @ 120..=7199 => format!("{} min ago", seconds / 60),
        seconds @ 7200..=172_799 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", seconds / 86400),
    }
}

/// How long after the beginning of a journey: `+4.2 s`.
pub(super) fn after(began: Timestamp, at: Timestamp) -> String {
    let since = at.duration_since(began).max(SignedDuration::ZERO);
    match since.as_secs() {
        0..=59 => format!("+{:.1} s", since.as_secs_f64()),
        seconds => format!("+{} min {} s", seconds / 60, seconds % 60),
    }
}

/// How large something is, roughly.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..=9_999 => format!("{bytes}\u{a0}bytes"),
        10_000..=9_999_999 => format!("{}\u{a0}kB", bytes / 1000),
        _ => format!("{}\u{a0}MB", bytes / 1_000_000),
    }
}

/// A number with its thousands apart, by a space that does not break.
pub(super) fn number(number: usize) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_told_in_a_few_words() {
        let began = Timestamp::from_second(1_800_000_000).expect("a time");
        let later = |millis| began + SignedDuration::from_millis(millis);
        for (millis, expected) in [
            (-5000, "just now"),
            (1999, "just now"),
            (2000, "2 s ago"),
            (120_000, "2 min ago"),
            (7_200_000, "2 h ago"),
            (172_800_000, "2 days ago"),
        ] {
            assert_eq!(ago(began, later(millis)), expected);
        }
        for (millis, expected) in [(-1, "+0.0 s"), (4230, "+4.2 s"), (61_000, "+1 min 1 s")] {
            assert_eq!(after(began, later(millis)), expected);
        }
        for (bytes, expected) in [(0, "0\u{a0}bytes"), (10_000, "10\u{a0}kB"), (12_345_678, "12\u{a0}MB")] {
            assert_eq!(size(bytes), expected);
        }
        let numbers = [7, 100, 1234, 10_000, 1_234_567].map(number);
        assert_eq!(numbers, ["7", "100", "1\u{202f}234", "10\u{202f}000", "1\u{202f}234\u{202f}567"]);
        assert_eq!((moment(began).as_str(), clock(began).as_str()), ("2027-01-15 08:00:00", "08:00:00"));
        assert_eq!(machine_readable(began), "2027-01-15T08:00:00Z");
    }
}
