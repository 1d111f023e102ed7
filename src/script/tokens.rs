//! A script read as iPXE reads it (`src/image/script.c` and `src/core/exec.c`), for tests: lines, words, operators,
//! labels, and what expands.

/// The words of every line that is not empty, operators among them.
pub(super) fn lines(script: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    let mut rest = script;
    while !rest.is_empty() {
        let (mut line, mut tail) = cut(rest);
        let mut whole = String::new();
        // A backslash at the end takes the next line in.
        while let Some(joined) = line.strip_suffix('\\') {
            whole.push_str(joined);
            (line, tail) = cut(tail);
            if tail.is_empty() && line.is_empty() {
                break;
            }
        }
        whole.push_str(line);
        rest = tail;
        let words: Vec<String> = whole
            .split([' ', '\t', '\u{b}', '\u{c}', '\r'])
            .filter(|word| !word.is_empty())
            .take_while(|word| !word.starts_with('#') || whole.starts_with("#!ipxe"))
            .map(str::to_owned)
            .collect();
        if !words.is_empty() {
            lines.push(words);
        }
    }
    lines
}

fn cut(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line), rest)
}

/// What would be expanded in a word: the names between `${` and `}`.
pub(super) fn expansions(word: &str) -> Vec<String> {
    word.match_indices("${")
        .filter_map(|(at, _)| word[at + 2..].split_once('}').map(|(name, _)| name.to_owned()))
        .collect()
}
