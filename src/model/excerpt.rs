//! [`excerpt`]: a text of a stranger, cut and made harmless where it enters.
//!
//! A machine's file name, a client's error message and a requested path are chosen by their sender. The copy that volboot
//! keeps, logs and shows has at most [`MAX_EXCERPT`] characters, and none that could change the display of other text.

/// Characters of a stranger's text that are kept.
pub const MAX_EXCERPT: usize = 128;

/// The first [`MAX_EXCERPT`] characters of `text`, with [hidden](is_hidden) ones replaced by U+FFFD.
pub fn excerpt(text: &str) -> String {
    let visible = |c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().take(MAX_EXCERPT).map(visible).collect()
}

/// Replaces `text` by its [`excerpt`]. A text that is one already, as nearly all are, is not copied.
pub fn cut_to_excerpt(text: &mut String) {
    let is_plain = text.len() <= MAX_EXCERPT && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_plain {
        *text = excerpt(text);
    }
}

/// Whether a terminal or a browser executes the character instead of showing it: controls, line separators, and the
/// characters that change the direction of text (Unicode Standard Annex 9, section 2). CVE-2021-42574 reorders text so.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_harmless() {
        assert_eq!(excerpt("undionly.kpxe"), "undionly.kpxe");
        assert_eq!(excerpt("bücher.efi"), "bücher.efi");
        assert_eq!(excerpt(&"ü".repeat(15_000)), "ü".repeat(MAX_EXCERPT));
        assert_eq!(
            excerpt("a\u{1b}[2J\u{9b}b\u{202e}c\u{2066}d\ne"),
            "a\u{fffd}[2J\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e"
        );
    }

    #[test]
    fn texts_are_cut_in_place() {
        for text in ["undionly.kpxe", "bücher.efi", "a\u{1b}[2J\u{7f}", &"x".repeat(MAX_EXCERPT + 1), ""] {
            let mut cut = text.to_owned();
            cut_to_excerpt(&mut cut);
            assert_eq!(cut, excerpt(text));
        }
    }

    #[test]
    fn every_bidirectional_control_is_hidden() {
        for c in ('\u{202a}'..='\u{202e}')
            .chain('\u{2066}'..='\u{2069}')
            .chain(['\0', '\u{7f}', '\u{85}', '\u{200f}'])
        {
            assert!(is_hidden(c), "{c:?}");
        }
        assert!(!"az09 ._-äß漢🙂\u{fffd}".chars().any(is_hidden));
    }
}
