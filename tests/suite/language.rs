//! Language of the crate: type names are unique, and sentences in comments have named subjects.
//!
//! CONTRIBUTING.md has the rules with an example for each.

use std::collections::BTreeMap;

use crate::source_files::read_all;

/// Type names that may stand in several modules.
const SHARED_NAMES: [&str; 3] = ["Error", "State", "Config"];
/// Words that stand for a noun, or ask for it.
const PRO_FORMS: [&str; 26] = [
    "who",
    "whom",
    "whose",
    "whoever",
    "what",
    "whatever",
    "which",
    "that",
    "this",
    "these",
    "those",
    "it",
    "its",
    "one",
    "ones",
    "nobody",
    "somebody",
    "anybody",
    "everybody",
    "none",
    "such",
    "so",
    "there",
    "they",
    "them",
    "their",
];
/// Shorter sentences are not counted.
const MIN_WORDS: usize = 9;
/// Of all counted sentences, at most one in this many may consist to a quarter or more of pro-forms.
const TREE_LIMIT: usize = 100;
/// The same for each file, as a number of sentences.
const FILE_LIMIT: usize = 1;

/// The names of structs, enums and traits that a file defines.
fn type_names(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with("pub"));
        let keyword = words.next()?;
        let name = words.next()?.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        (["struct", "enum", "trait"].contains(&keyword) && !name.is_empty()).then_some(name)
    })
}

/// The text of a comment line, or of a comment at the end of a line of code.
fn comment(line: &str) -> Option<&str> {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        return Some(trimmed.trim_start_matches(['/', '!']).trim());
    }
    line.split_once("; // ").or_else(|| line.split_once(", // ")).map(|(_, text)| text.trim())
}

/// The comments of a file, each as one text. A table cell, a list item and a paragraph end a sentence; code blocks are
/// left out.
fn comments(text: &str) -> Vec<String> {
    let mut blocks = vec![String::new()];
    let mut in_code_block = false;
    for line in text.lines() {
        let Some(line_text) = comment(line) else {
            blocks.push(String::new());
            continue;
        };
        let is_fence = line_text.starts_with("```");
        in_code_block ^= is_fence;
        if in_code_block || is_fence {
            continue;
        }
        let block = blocks.last_mut().expect("at least one block");
        let starts_sentence = line_text.is_empty() || line_text.starts_with(['*', '-', '#', '|']);
        if starts_sentence {
            block.push_str(". ");
        }
        block.push_str(&line_text.replace('|', ". "));
        block.push(' ');
    }
    blocks.retain(|block| !block.trim().is_empty());
    blocks
}

/// Replaces each code span and each link by one word.
fn collapse_code(text: &str) -> String {
    let mut text = text.to_owned();
    // A Markdown link: `[label](target)`.
    while let Some(middle) = text.find("](") {
        let start = text[..middle].rfind('[').unwrap_or(middle);
        let end = text[middle..].find(')').map_or(text.len(), |end| middle + end + 1);
        text.replace_range(start..end, "link");
    }
    let spans: Vec<&str> = text.split('`').collect();
    let mut collapsed = String::new();
    for (index, span) in spans.iter().enumerate() {
        collapsed.push_str(if index % 2 == 1 { "code" } else { span });
    }
    let is_link = |word: &&str| word.contains("://");
    let words: Vec<&str> =
        collapsed.split_whitespace().map(|word| if is_link(&word) { "link" } else { word }).collect();
    words.join(" ")
}

/// The sentences of a text that are long enough to count, as words. `. ! ? ; :` end a sentence before a space.
fn sentences(text: &str) -> Vec<Vec<String>> {
    let text = collapse_code(text) + " ";
    let mut sentences = Vec::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let end = [". ", "! ", "? ", "; ", ": "].iter().filter_map(|mark| rest.find(mark)).min();
        let (sentence, tail) = end.map_or((rest, ""), |end| (&rest[..end], &rest[end + 2..]));
        rest = tail;
        let has_letter = |word: &&str| word.chars().any(char::is_alphanumeric);
        let words: Vec<String> = sentence
            .split_whitespace()
            .filter(has_letter)
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
            .collect();
        if words.len() >= MIN_WORDS {
            sentences.push(words);
        }
    }
    sentences
}

/// Whether a quarter or more of the words are pro-forms.
fn lacks_nouns(words: &[String]) -> bool {
    let pro_forms = words.iter().filter(|word| PRO_FORMS.contains(&word.as_str())).count();
    pro_forms * 4 >= words.len()
}

#[test]
fn type_names_are_unique() {
    let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in read_all("src") {
        for name in type_names(&text) {
            files.entry(name.to_owned()).or_default().push(path.display().to_string());
        }
    }
    files.retain(|name, files| files.len() > 1 && !SHARED_NAMES.contains(&name.as_str()));
    assert!(files.is_empty(), "\n{files:#?}");
}

#[test]
fn sentences_have_named_subjects() {
    let (mut total, mut unclear) = (0, Vec::new());
    let mut crowded = Vec::new();
    for folder in ["src", "tests"] {
        for (path, text) in read_all(folder) {
            let all: Vec<_> = comments(&text).iter().flat_map(|comment| sentences(comment)).collect();
            total += all.len();
            let path = format!("{folder}/{}", path.display());
            let here = all.iter().filter(|words| lacks_nouns(words));
            let here: Vec<_> = here.map(|words| format!("{path}: {}", words.join(" "))).collect();
            if here.len() > FILE_LIMIT {
                crowded.push(path);
            }
            unclear.extend(here);
        }
    }
    assert!(total > 1000, "only {total} sentences: the parser fails");
    assert!(
        unclear.len() * TREE_LIMIT <= total && crowded.is_empty(),
        "{} of {total} sentences lack a named subject; more than {FILE_LIMIT} in: {crowded:?}\n{}",
        unclear.len(),
        unclear.join("\n")
    );
}

#[test]
fn parser_counts_sentences_as_defined() {
    let comment = "/// Whoever asks for what is not there is told so, and that is all of it.\n\
                   /// The transfer ends with an ICMP error from the client; see `a b c` and [`X`].\n\
                   let x = 1; // code";
    let found: Vec<_> = comments(comment).iter().flat_map(|comment| sentences(comment)).collect();
    let unclear: Vec<_> = found.iter().map(|words| lacks_nouns(words)).collect();
    assert_eq!(unclear, [true, false], "{found:?}");
    assert_eq!(comments("/// ```\n/// who who who\n/// ```\ncode();"), Vec::<String>::new());
    assert_eq!(
        type_names("pub(super) struct A<T>(T);\nenum B {\npub trait C: D {\nlet e = struct_;")
            .collect::<Vec<_>>(),
        ["A", "B", "C"]
    );
}
