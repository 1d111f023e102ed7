//! What a process or a machine has printed: made readable, searchable, and with the time of each piece.
//!
//! Traps it copes with:
//! * Firmware and boot loaders draw: they move the cursor, colour, and rub out with backspaces. Escape
//!   sequences are dropped, so that text can be matched and shown on any terminal without upsetting it.
//! * SeaBIOS breaks lines at 80 columns, in the middle of words. So text is searched in what was printed
//!   *without* its line breaks, and shown with them.
//! * iPXE adds a dot for each second that it waits. In the text that is searched there are three at most.

use std::mem;
use std::time::Instant;

/// The text of one console, as far as it has come.
#[derive(Default)]
pub(crate) struct Console {
    cleaner: Cleaner,
    lines: Vec<String>,
    line: String,
    /// Everything printable, without line breaks: what is searched.
    text: String,
    /// How long `text` was at which time.
    marks: Vec<(usize, Instant)>,
}

impl Console {
    /// Takes in what was printed at `now`; returns the lines this has completed, without empty ones.
    pub(crate) fn absorb(&mut self, bytes: &[u8], now: Instant) -> &[String] {
        let before = self.lines.len();
        for &byte in bytes {
            match self.cleaner.clean(byte) {
                Some(Stroke::Print(character)) => {
                    self.line.push(character);
                    if character != '.' || !self.text.ends_with("...") {
                        self.text.push(character);
                    }
                }
                Some(Stroke::RubOut) if self.line.pop().is_some() => {
                    self.text.pop();
                }
                Some(Stroke::NewLine) if !self.line.trim().is_empty() => {
                    self.lines.push(mem::take(&mut self.line).trim_end().to_owned());
                }
                Some(Stroke::NewLine) => self.line.clear(),
                Some(Stroke::RubOut) | None => {}
            }
        }
        self.marks.push((self.text.len(), now));
        &self.lines[before..]
    }

    /// Where `pattern` first ends at or after `from`, and when that had come.
    pub(crate) fn find(&self, pattern: &str, from: usize) -> Option<(usize, Instant)> {
        let end = from + self.text.get(from..)?.find(pattern)? + pattern.len();
        let mark = self.marks.partition_point(|&(length, _)| length < end);
        Some((end, self.marks.get(mark)?.1))
    }

    /// The last `count` lines, the unfinished one included.
    pub(crate) fn tail(&self, count: usize) -> String {
        let unfinished = Some(self.line.as_str()).filter(|line| !line.trim().is_empty());
        let lines: Vec<&str> = self.lines.iter().map(String::as_str).chain(unfinished).collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// What one byte means for the text.
enum Stroke {
    Print(char),
    RubOut,
    NewLine,
}

/// Takes terminal control out of a stream of bytes (ECMA-48 escape sequences, §5.4).
#[derive(Default)]
enum Cleaner {
    #[default]
    Text,
    Escape,
    Sequence,
}

impl Cleaner {
    fn clean(&mut self, byte: u8) -> Option<Stroke> {
        match (&self, byte) {
            (Self::Text, 0x1b) => *self = Self::Escape,
            (Self::Text, 0x08) => return Some(Stroke::RubOut),
            (Self::Text, b'\n' | b'\r') => return Some(Stroke::NewLine),
            (Self::Text, b'\t') => return Some(Stroke::Print(' ')),
            (Self::Text, 0x20..=0x7e) => return Some(Stroke::Print(char::from(byte))),
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

    fn after(printed: &str) -> Console {
        let mut console = Console::default();
        console.absorb(printed.as_bytes(), Instant::now());
        console
    }

    #[test]
    fn a_word_broken_at_the_edge_of_the_screen_is_found() {
        let console = after("Open Source Network Boot Firmware -- http\r\n://ipxe.org\r\n");
        assert!(console.find("http://ipxe.org", 0).is_some());
        assert_eq!(console.tail(1), "://ipxe.org");
    }

    #[test]
    fn drawing_leaves_only_the_text() {
        let console = after("\x1b[2J\x1b[01;01H\x1b[=3hWelcome to \x1b[1m\x1b[37mGRUB\x1b[0m!\x1b[10;04H\n");
        assert_eq!(console.tail(9), "Welcome to GRUB!");
    }

    #[test]
    fn what_was_rubbed_out_is_gone() {
        let console = after("Press Ctrl-B\x08 \x08\x08 \x08+C\n");
        assert_eq!(console.tail(9), "Press Ctrl+C");
    }

    #[test]
    fn a_pattern_has_the_time_of_the_piece_that_completed_it() {
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
