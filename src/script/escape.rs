//! What may stand in a script: the second lock after the types of `model`.
//!
//! iPXE has no quoting (`src/core/exec.c`): a line is cut at white space, then `${…}` is expanded in each word, and
//! the result is expanded again as long as there is something to expand; a word that begins with `#` ends the line;
//! `||`, `&&` and `;` are operators; a `\` at the end joins the next line. Nothing can be made harmless by adding
//! characters, so there are two ways only: a value is a plain word or the script is not written ([`Ipxe`]), and
//! a text for people loses what could mean something ([`filters::text`]).

use std::fmt::{self, Write};

use askama::filters::Escaper;

/// Lets plain words through and fails on everything else.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ipxe;

impl Escaper for Ipxe {
    fn write_escaped_str<W: Write>(&self, mut dest: W, string: &str) -> fmt::Result {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:,/\\[]+".contains(&b);
        if string.bytes().all(plain) { dest.write_str(string) } else { Err(fmt::Error) }
    }
}

/// The longest text for people: a few lines of an 80-column console.
const TEXT: usize = 400;

/// A text that `echo` prints as one line and as nothing but a text.
pub(crate) fn text(given: &str) -> String {
    let mut out = String::with_capacity(given.len());
    for word in given.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if out.len() + word.len() > TEXT {
            out.push_str(" ...");
            break;
        }
        let word = plain(word);
        if !word.is_empty() {
            out.push_str(if out.is_empty() { "" } else { " " });
            out.push_str(&word);
        }
    }
    out
}

/// A word that is neither a comment nor an operator, and in which nothing is expanded.
fn plain(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        match c {
            '#' if out.is_empty() => {}
            // Half of an expansion is none.
            '{' if out.ends_with('$') => {}
            ' '..='~' => out.push(c),
            // The console of a firmware knows ASCII.
            '‘' | '’' => out.push('\''),
            '“' | '”' => out.push('"'),
            '–' | '—' => out.push('-'),
            '…' => out.push_str("..."),
            _ => out.push('?'),
        }
    }
    // A line that ends so would take the next one in.
    out.truncate(out.trim_end_matches('\\').len());
    // Asked last: what was left out above must not have made one.
    if matches!(out.as_str(), "||" | "&&" | ";") { ",".into() } else { out }
}

/// What templates call.
#[allow(unreachable_pub, clippy::pedantic, reason = "what the macro writes")]
pub(crate) mod filters {
    use askama::filters::Safe;

    /// A text for people, as [`super::text`] makes it harmless.
    #[askama::filter_fn]
    pub(crate) fn text(
        given: impl std::fmt::Display,
        _: &dyn askama::Values,
    ) -> askama::Result<Safe<String>> {
        Ok(Safe(super::text(&given.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_readable() {
        assert_eq!(
            text("node web-1 is in maintenance: disk ordered"),
            "node web-1 is in maintenance: disk ordered"
        );
        assert_eq!(text("„weird“ — naïve…"), "?weird\" - na?ve...");
    }

    #[test]
    fn a_text_can_only_be_a_text() {
        assert_eq!(text("a\nset x y\r\n\tb\0c"), "a set x y b c");
        assert_eq!(text("a || reboot && b ; c"), "a , reboot , b , c");
        assert_eq!(text("see #5 ##6 x#7 # ##"), "see 5 6 x#7");
        assert_eq!(text("a #; b ##|| c #&& d"), "a , b , c , d");
        assert_eq!(text("${password} $${{x} $ {y}"), "$password} $$x} $ {y}");
        assert_eq!(text(r"ends in \\\ or ;\ or \x"), r"ends in or , or \x");
        assert_eq!(text(&"x".repeat(500)), " ...");
        assert!(text(&"word ".repeat(500)).len() <= TEXT + 5);
    }

    #[test]
    fn a_value_is_a_plain_word_or_nothing() {
        let escaped = |value: &str| {
            let mut out = String::new();
            Ipxe.write_escaped_str(&mut out, value).map(|()| out)
        };
        for plain in [
            "iqn.2010-10.org.openstack:a",
            "iscsi:[2001:db8::1]::3260:a-1:iqn.2010-10.a",
            r"\EFI\a\b.efi",
            "61:62",
        ] {
            assert_eq!(escaped(plain), Ok(plain.to_owned()));
        }
        for bad in ["a b", "a\n", "${x}", "#", "||", "&&", ";", "a\0", "é", "a\tb", "a$b"] {
            assert_eq!(escaped(bad), Err(fmt::Error), "{bad:?}");
        }
    }
}
