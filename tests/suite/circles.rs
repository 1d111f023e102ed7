//! No import circles: two files of `src` never use each other, whether directly or through further files.
//!
//! One pair is left out: a `mod.rs` and a file below it use each other, because a `mod.rs` declares the files below
//! it and re-exports their items.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::source_files::read_all;

/// The files that each file uses.
type Graph = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

/// The paths below `crate::` and `super::` that the code of a file names, import lists expanded. Comments do not
/// count.
fn used_paths(text: &str) -> Vec<String> {
    let code: String =
        text.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect();
    let mut paths = Vec::new();
    for (at, root) in code.match_indices("crate::").chain(code.match_indices("super::")) {
        // `super::super::x` is found at its first `super`.
        let is_start = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
        if is_start {
            expand(root.trim_end_matches("::"), &code[at + root.len()..], &mut paths);
        }
    }
    paths
}

/// Adds the paths that `rest` appends to `prefix`: one, or those of an import list.
fn expand(prefix: &str, rest: &str, paths: &mut Vec<String>) {
    let rest = rest.trim_start();
    if let Some(list) = rest.strip_prefix('{') {
        return list_items(list).into_iter().for_each(|item| expand(prefix, item, paths));
    }
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return paths.push(prefix.to_owned());
    }
    let path = format!("{prefix}::{name}");
    match rest[name.len()..].strip_prefix("::") {
        Some(rest) => expand(&path, rest, paths),
        None => paths.push(path),
    }
}

/// The items of an import list up to its closing brace; each slice starts at its item.
fn list_items(list: &str) -> Vec<&str> {
    let (mut depth, mut items) = (0, vec![list]);
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(&list[at + 1..]),
            _ => {}
        }
    }
    items
}

/// The file that a path names, seen from `file`.
fn resolve(file: &Path, path: &str, files: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let stem = file.with_extension("");
    let mut folder: PathBuf = if stem.ends_with("mod") { stem.parent()?.to_owned() } else { stem };
    let mut found = None;
    for segment in path.split("::") {
        match segment {
            "crate" => folder = PathBuf::new(),
            "super" => folder = folder.parent()?.to_owned(),
            name => folder = folder.join(name),
        }
        for file in [folder.with_extension("rs"), folder.join("mod.rs")] {
            if files.contains(&file) {
                found = Some(file);
            }
        }
    }
    found
}

/// Whether `path` is a file below the `mod.rs` that is `module`.
fn is_below(path: &Path, module: &Path) -> bool {
    module.ends_with("mod.rs") && module.parent().is_some_and(|folder| path.starts_with(folder))
}

fn build_graph(sources: &[(PathBuf, String)]) -> Graph {
    let files: BTreeSet<_> = sources.iter().map(|(path, _)| path.clone()).collect();
    let used = |(path, text): &(PathBuf, String)| {
        let used = used_paths(text).into_iter().filter_map(|used| resolve(path, &used, &files));
        let is_arrow = |used: &PathBuf| used != path && !is_below(path, used) && !is_below(used, path);
        (path.clone(), used.filter(is_arrow).collect())
    };
    sources.iter().filter(|(path, _)| !path.ends_with("lib.rs")).map(used).collect()
}

/// A circle through `path`, if there is one.
fn find_circle(graph: &Graph, path: &Path) -> Option<Vec<PathBuf>> {
    let mut trails = vec![vec![path.to_owned()]];
    let mut visited = BTreeSet::new();
    while let Some(trail) = trails.pop() {
        for next in graph.get(trail.last()?).into_iter().flatten() {
            if next == path {
                return Some(trail);
            }
            if visited.insert(next.clone()) {
                trails.push([trail.clone(), vec![next.clone()]].concat());
            }
        }
    }
    None
}

#[test]
fn no_two_files_use_each_other() {
    let graph = build_graph(&read_all("src"));
    let circles: Vec<_> = graph.keys().filter_map(|path| find_circle(&graph, path)).collect();
    assert!(circles.is_empty(), "{circles:#?}");
    let arrows: usize = graph.values().map(BTreeSet::len).sum();
    assert!(arrows > 300, "only {arrows} imports were recognized");
}

#[test]
fn circles_are_found_in_every_form_of_import() {
    let circle = |a: &str, b: &str| {
        let sources = [("x/a.rs", a), ("x/b.rs", b), ("x/mod.rs", "mod a;\nmod b;")];
        let sources = sources.map(|(path, text)| (PathBuf::from(path), text.to_owned()));
        let graph = build_graph(&sources);
        graph.keys().any(|path| find_circle(&graph, path).is_some())
    };
    for import in
        ["use super::b::B;", "use crate::x::b::{B, C};", "use super::{Other, b::B};", "super::b::run();"]
    {
        assert!(circle(import, "use super::a::A;"), "{import}");
        assert!(!circle(import, "// super::a\nuse super::Other;"), "{import}");
    }
}
