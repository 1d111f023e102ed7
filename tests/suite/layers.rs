//! The floors of the house: a module uses what is below it, never what is above. And every file says what it is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, its floor, and what it may use on its own floor.
const FLOORS: &[(&str, u8, &[&str])] = &[
    ("model", 0, &[]),
    ("config", 1, &[]),
    ("images", 1, &[]),
    ("listen", 1, &[]),
    ("neighbours", 1, &[]),
    ("telemetry", 1, &[]),
    ("tls", 1, &[]),
    // Meaning → text: it speaks of what the operator configured.
    ("script", 1, &["config"]),
    ("keystone", 2, &[]),
    ("cinder", 2, &["keystone"]),
    ("store", 2, &[]),
    ("tftp", 2, &[]),
    ("attach", 3, &[]),
    ("timeline", 3, &[]),
    ("boot", 3, &["attach"]),
    ("auth", 4, &[]),
    ("api", 4, &["auth"]),
    ("http", 4, &[]),
    ("web", 4, &["auth"]),
    ("app", 5, &[]),
    ("cli", 6, &[]),
    ("main", 6, &["cli"]),
];

/// Lines of one file, its tests not counted.
const LONGEST_FILE: usize = 400;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    sources(&root, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("text");
        (path.strip_prefix(&root).expect("is below").to_owned(), text)
    };
    found.into_iter().map(read).collect()
}

/// The module a file belongs to: its first folder, or its name.
fn module(path: &Path) -> String {
    let first = path.components().next().expect("a name").as_os_str().to_str().expect("text");
    first.trim_end_matches(".rs").to_owned()
}

/// The modules of the crate that a file names, with the lines where it does.
fn uses(text: &str) -> Vec<(usize, String)> {
    // Comments may name what they like.
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut found = Vec::new();
    for root in ["crate::", "volboot::"] {
        for (at, _) in code.match_indices(root) {
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + root.len()..];
            let names = match rest.strip_prefix('{') {
                Some(list) => first_of_each(list),
                None => vec![rest],
            };
            let names = names
                .into_iter()
                .map(|name| name.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_'));
            found.extend(
                names.map(|name| (line, name.collect::<String>())).filter(|(_, name)| !name.is_empty()),
            );
        }
    }
    found
}

/// The beginnings of the items of a list `a::{b, c}, d}`, up to the brace that closes it.
fn first_of_each(list: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut items = vec![list.trim_start()];
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(list[at + 1..].trim_start()),
            _ => {}
        }
    }
    items
}

#[test]
fn arrows_run_down_the_floors() {
    let floors: BTreeMap<_, _> =
        FLOORS.iter().map(|(name, floor, beside)| (*name, (*floor, *beside))).collect();
    let mut wrong = Vec::new();
    for (path, text) in all() {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let Some((floor, beside)) = floors.get(own.as_str()) else {
            wrong.push(format!("{}: its module stands on no floor", path.display()));
            continue;
        };
        for (line, used) in uses(&text).into_iter().filter(|(_, used)| *used != own) {
            let allowed = floors
                .get(used.as_str())
                .is_some_and(|(below, _)| below < floor || beside.contains(&used.as_str()));
            if !allowed {
                wrong.push(format!("{}:{line}: {own} (floor {floor}) uses {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for_and_is_one_idea_long() {
    let mut wrong = Vec::new();
    for (path, text) in all() {
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not begin with //!", path.display()));
        }
        let lines = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{}: {lines} lines without its tests", path.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_arrow_is_seen_wherever_it_stands() {
    let names = |text: &str| uses(text).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names("use crate::boot::Boot;"), ["boot"]);
    assert_eq!(
        names("use crate::{\n    boot::{Boot, name},\n    http::Machines,\n};\nuse x::{y};"),
        ["boot", "http"]
    );
    assert_eq!(names("    let x = crate::store::Batch::default(); // crate::cli"), ["store"]);
    assert_eq!(uses("\nvolboot::cli::run()"), [(2, "cli".to_owned())]);
}
