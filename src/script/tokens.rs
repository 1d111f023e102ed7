//! Tokenizer for tests: splits a script into lines and words by iPXE's rules (`src/image/script.c` and
//! `src/core/exec.c`).

/// Splits each non-empty line into its words, including operators.
pub(super) fn lines(script: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut rest = script;
    while !rest.is_empty() {
        let (mut line, mut tail) = split_line(rest);
        let mut full_line = String::new();
        // A final backslash joins the next line.
        while let Some(joined) = line.strip_suffix('\\') {
            full_line.push_str(joined);
            (line, tail) = split_line(tail);
            if tail.is_empty() && line.is_empty() {
                break;
            }
        }
        full_line.push_str(line);
        rest = tail;
        let words: Vec<String> = full_line
            .split([' ', '\t', '\u{b}', '\u{c}', '\r'])
            .filter(|word| !word.is_empty())
            .take_while(|word| !word.starts_with('#') || full_line.starts_with("#!ipxe"))
            .map(str::to_owned)
            .collect();
        if !words.is_empty() {
            lines.push(words);
        }
    }
    lines
}

fn split_line(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

/// The names that iPXE would expand in a word: those between `${` and `}`.
pub(super) fn expansions(word: &str) -> Vec<String> {
    word.match_indices("${")
        .filter_map(|(index, _)| word[index + 2..].split_once('}').map(|(name, _)| name.to_owned()))
        .collect()
}
