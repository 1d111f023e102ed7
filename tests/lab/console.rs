//! [`Console`]: the output of a process or machine as searchable text, with the time of each piece.
//!
//! Traps:
//! * Firmware and boot loaders move the cursor, set colours, and delete with backspaces. Escape sequences are removed,
//!   so that text can be matched, and shown on any terminal.
//! * SeaBIOS wraps lines at 80 columns, within words. So patterns are searched in the text *without* line breaks.
//! * iPXE prints a dot for each second of a wait. The searched text keeps three at most.

use std::mem;
use std::time::Instant;

/// The text of one console so far.
#[derive(Default)]
pub(crate) struct Console {
    cleaner: EscapeFilter,
    lines: Vec<String>,
    line: String,
    /// The searched text: all printable characters, without line breaks.
    text: String,
    /// The length of `text` at each time.
    marks: Vec<(usize, Instant)>,
}

impl Console {
    /// Adds output that was printed at `now`; returns the lines it completes, without empty ones.
    pub(crate) fn absorb(&mut self, bytes: &[u8], now: Instant) -> &[String] {
        let before = self.lines.len();
        for &byte in bytes {
            match self.cleaner.filter(byte) {
                Some(Edit::Print(character)) => {
                    self.line.push(character);
                    if character != '.' || !self.text.ends_with("...") {
                        self.text.push(character);
                    }
                }
                Some(Edit::Backspace) if self.line.pop().is_some() => {
                    self.text.pop();
                }
                Some(Edit::NewLine) if !self.line.trim().is_empty() => {
                    self.lines.push(mem::take(&mut self.line).trim_end().to_owned());
                }
                Some(Edit::NewLine) => self.line.clear(),
                Some(Edit::Backspace) | None => {}
            }
        }
        self.marks.push((self.text.len(), now));
        &self.lines[before..]
    }

    /// Finds `pattern` at or after `from`; returns the match's end and its time.
    pub(crate) fn find(&self, pattern: &str, from: usize) -> Option<(usize, Instant)> {
        let end = from + self.text.get(from..)?.find(pattern)? + pattern.len();
        let mark = self.marks.partition_point(|&(length, _)| length < end);
        Some((end, self.marks.get(mark)?.1))
    }

    /// The last `count` lines, including an unfinished one.
    pub(crate) fn tail(&self, count: usize) -> String {
        let unfinished = Some(self.line.as_str()).filter(|line| !line.trim().is_empty());
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).chain(unfinished).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// The effect of one byte on the text.
enum Edit {
    Print(char),
    Backspace,
    NewLine,
}

/// Removes terminal control from a stream of bytes (ECMA-48 escape sequences, §5.4).
#[derive(Default)]
enum EscapeFilter {
    #[default]
    Text,
    Escape,
    Sequence,
}

impl EscapeFilter {
    fn filter(&mut self, byte: u8) -> Option<Edit> {
        match (&self, byte) {
            (Self::Text, 0x1b) => *self = Self::Escape,
            (Self::Text, 0x08) => return Some(Edit::Backspace),
            (Self::Text, b'\n' | b'\r') => return Some(Edit::NewLine),
            (Self::Text, b'\t') => return Some(Edit::Print(' ')),
            (Self::Text, 0x20..=0x7e) => return Some(Edit::Print(char::from(byte))),
            (Self::Escape, b'[') => *self = Self::Sequence,
            (Self::Sequence, 0x20..=0x3f) | (Self::Text, _) => {}
            (Self::Escape | Self::Sequence, _) => *self = Self::Text,
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console_with(output: &str) -> Console {
        let mut console = Console::default();
        console.absorb(output.as_bytes(), Instant::now());
        console
    }

    #[test]
    fn wrapped_word_is_found() {
        let console = console_with("Open Source Network Boot Firmware -- http\r\n://ipxe.org\r\n");
        assert!(console.find("http://ipxe.org", 0).is_some());
        assert_eq!(console.tail(1), "://ipxe.org");
    }

    #[test]
    fn escape_sequences_are_removed() {
        let console =
            console_with("\x1b[2J\x1b[01;01H\x1b[=3hWelcome to \x1b[1m\x1b[37mGRUB\x1b[0m!\x1b[10;04H\n");
        assert_eq!(console.tail(9), "Welcome to GRUB!");
    }

    #[test]
    fn backspace_deletes() {
        let console = console_with("Press Ctrl-B\x08 \x08\x08 \x08+C\n");
        assert_eq!(console.tail(9), "Press Ctrl+C");
    }

    #[test]
    fn match_has_the_time_of_its_last_piece() {
        let first = Instant::now();
        let second = first + std::time::Duration::from_secs(1);
        let mut console = Console::default();
        console.absorb(b"volume alp", first);
        console.absorb(b"ha booted", second);
        assert_eq!(console.find("volume", 0), Some((6, first)));
        assert_eq!(console.find("alpha", 0), Some((12, second)));
        assert_eq!(console.find("volume", 6), None);
    }
}
