//! The floors of the house: a module uses what is below it, never what is above. And every file says what it is for.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module, its floor, and what it may use on its own floor.
const FLOORS: [(&str, u8, &[&str]); 17] = [
    ("model", 0, &[]),
    ("config", 1, &[]),
    ("images", 1, &[]),
    ("listen", 1, &[]),
    ("telemetry", 1, &[]),
    // Meaning → text: it speaks of what the operator configured.
    ("script", 1, &["config"]),
    ("keystone", 2, &[]),
    ("cinder", 2, &["keystone"]),
    ("store", 2, &[]),
    ("tftp", 2, &[]),
    ("boot", 3, &[]),
    ("auth", 4, &[]),
    ("api", 4, &["auth"]),
    ("http", 4, &[]),
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

/// The modules named after `crate::` (or `volboot::`) anywhere in a line.
fn uses(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    ["crate::", "volboot::"]
        .iter()
        .flat_map(|root| code.match_indices(root).map(move |(at, _)| &code[at + root.len()..]))
        .flat_map(|rest| match rest.strip_prefix('{') {
            Some(list) => list.split(',').map(str::trim).collect::<Vec<_>>(),
            None => vec![rest],
        })
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect())
        .filter(|module: &String| !module.is_empty())
        .collect()
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
        for (at, line) in text.lines().enumerate() {
            for used in uses(line).into_iter().filter(|used| *used != own) {
                let allowed = floors
                    .get(used.as_str())
                    .is_some_and(|(below, _)| below < floor || beside.contains(&used.as_str()));
                if !allowed {
                    wrong.push(format!("{}:{}: {own} (floor {floor}) uses {used}", path.display(), at + 1));
                }
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
    assert_eq!(uses("use crate::boot::Boot;"), ["boot"]);
    assert_eq!(uses("use crate::{boot, http::Machines};"), ["boot", "http"]);
    assert_eq!(uses("    let x = crate::store::Batch::default(); // crate::cli"), ["store"]);
    assert_eq!(uses("volboot::cli::run()"), ["cli"]);
}
