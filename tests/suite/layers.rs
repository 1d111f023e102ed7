//! Structure of the crate: modules use modules on floors below their own; files are short and state their purpose.

use std::collections::BTreeMap;
use std::path::Path;

use crate::source_files::read_all;

/// Each module, its floor, and the modules on the same floor that it may use.
const FLOORS: &[(&str, u8, &[&str])] = &[
    ("model", 0, &[]),
    ("config", 1, &[]),
    ("images", 1, &[]),
    ("listen", 1, &[]),
    ("neighbours", 1, &[]),
    ("telemetry", 1, &[]),
    ("tls", 1, &[]),
    // Script texts depend on configured values.
    ("script", 1, &["config"]),
    ("keystone", 2, &[]),
    ("cinder", 2, &["keystone"]),
    ("store", 2, &[]),
    ("dhcp", 2, &[]),
    ("inspect", 2, &[]),
    ("iscsi", 2, &[]),
    ("preflight", 2, &[]),
    ("redfish", 2, &[]),
    ("tftp", 2, &[]),
    ("attach", 3, &[]),
    ("power", 3, &[]),
    ("timeline", 3, &[]),
    ("check", 3, &[]),
    ("boot", 3, &["attach", "timeline"]),
    ("auth", 4, &[]),
    ("cluster", 4, &[]),
    ("operator", 4, &["cluster"]),
    ("api", 5, &[]),
    ("http", 5, &[]),
    ("web", 5, &[]),
    ("app", 6, &[]),
    // A test alone.
    ("history_checker", 6, &[]),
    ("cli", 7, &[]),
    ("main", 7, &["cli"]),
];

/// Modules that use no other module. `tests/fuzz` compiles all but the last alone.
const STANDALONE: [&str; 5] = ["dhcp", "inspect", "iscsi", "tftp", "redfish"];

/// Maximum lines of a file of `src`, without its inline tests.
const MAX_CODE_LINES: usize = 400;
/// Maximum lines of any file.
const MAX_LINES: usize = 450;
/// Nine files in ten have at most this many lines.
const USUAL_LINES: usize = 300;

/// The module of a file: its first folder, or its name.
fn module_of(path: &Path) -> String {
    let first = path.components().next().expect("non-empty path").as_os_str().to_str().expect("UTF-8");
    first.trim_end_matches(".rs").to_owned()
}

/// The modules of the crate that the code of a file names, each with its line. Comments may name any module.
fn used_modules(text: &str) -> Vec<(usize, String)> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut uses = Vec::new();
    for root in ["crate::", "volboot::"] {
        for (at, _) in code.match_indices(root) {
            let line = code[..at].matches('\n').count() + 1;
            let rest = &code[at + root.len()..];
            let paths = match rest.strip_prefix('{') {
                Some(list) => import_list_items(list),
                None => vec![rest],
            };
            let names = paths
                .into_iter()
                .map(|path| path.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_'));
            uses.extend(
                names.map(|name| (line, name.collect::<String>())).filter(|(_, name)| !name.is_empty()),
            );
        }
    }
    uses
}

/// The items of an import list `a::{b, c}, d}`, up to the closing brace; each slice starts at its item.
fn import_list_items(list: &str) -> Vec<&str> {
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
fn modules_use_lower_floors_only() {
    let floors: BTreeMap<_, _> =
        FLOORS.iter().map(|(name, floor, beside)| (*name, (*floor, *beside))).collect();
    let mut violations = Vec::new();
    for (path, text) in read_all("src") {
        let own = module_of(&path);
        if own == "lib" {
            continue;
        }
        let Some((floor, beside)) = floors.get(own.as_str()) else {
            violations.push(format!("{}: module {own} has no floor", path.display()));
            continue;
        };
        for (line, used) in used_modules(&text).into_iter().filter(|(_, used)| *used != own) {
            let is_below = floors
                .get(used.as_str())
                .is_some_and(|(below, _)| below < floor || beside.contains(&used.as_str()));
            let allowed = is_below && !STANDALONE.contains(&own.as_str());
            if !allowed {
                violations.push(format!("{}:{line}: {own} (floor {floor}) uses {used}", path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn each_file_states_its_purpose_and_is_short() {
    let mut violations = Vec::new();
    for (path, text) in read_all("src") {
        if !text.starts_with("//!") {
            violations.push(format!("{}: does not begin with //!", path.display()));
        }
        let lines = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().lines().count();
        if lines > MAX_CODE_LINES {
            violations.push(format!("{}: {lines} lines without its tests", path.display()));
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn nine_files_in_ten_have_at_most_300_lines() {
    let files = [read_all("src"), read_all("tests")].concat();
    let length = |(path, text): &(std::path::PathBuf, String)| (text.lines().count(), path.clone());
    let mut lengths: Vec<_> = files.iter().map(length).collect();
    lengths.sort();
    let (longest, path) = lengths.last().expect("files");
    assert!(*longest <= MAX_LINES, "{}: {longest} lines", path.display());
    let (ninth, _) = &lengths[lengths.len() * 9 / 10];
    assert!(*ninth <= USUAL_LINES, "one file in ten has {ninth} lines or more");
}

#[test]
fn import_parser_finds_every_form_of_use() {
    let names = |text: &str| used_modules(text).into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    assert_eq!(names("use crate::boot::Boot;"), ["boot"]);
    assert_eq!(
        names("use crate::{\n    boot::{Boot, name},\n    http::Machines,\n};\nuse x::{y};"),
        ["boot", "http"]
    );
    assert_eq!(names("    let x = crate::store::Batch::default(); // crate::cli"), ["store"]);
    assert_eq!(used_modules("\nvolboot::cli::run()"), [(2, "cli".to_owned())]);
}
