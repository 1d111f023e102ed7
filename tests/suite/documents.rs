//! What people read about the configuration is what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use volboot::config::Config;

use crate::daemon::volboot;

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("text")
}

fn keys() -> BTreeSet<String> {
    Config::keys().into_iter().collect()
}

/// The keys of a TOML text, as `http.listen`.
fn keys_of(text: &str) -> BTreeSet<String> {
    let table: toml::Table = text.parse().expect("is TOML");
    let mut keys = BTreeSet::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(section) => keys.extend(section.keys().map(|key| format!("{name}.{key}"))),
            _ => assert!(keys.insert(name)),
        }
    }
    keys
}

/// A key that has no default is shown with an example.
fn is_example(line: &str) -> bool {
    line.contains("(example)")
}

/// Takes the comment sign away from lines such as `#key = value`.
fn uncomment(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let uncommented = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) && wanted(line) => key,
        _ => line,
    });
    uncommented.collect::<Vec<_>>().join("\n")
}

/// Each line with the section it is in.
fn in_sections(text: &str) -> Vec<(&str, &str)> {
    let mut section = "";
    let lines = text.lines().map(|line| {
        let name = line.strip_prefix('[').and_then(|line| line.split(']').next());
        section = name.unwrap_or(section);
        (section, line)
    });
    lines.collect()
}

#[test]
fn the_shipped_configuration_shows_every_key_with_its_default() {
    let shipped = document("packaging/volboot.toml");
    assert_eq!(keys_of(&shipped), BTreeSet::new(), "nothing is said that the operator has not said");
    let defaults = uncomment(&shipped, |line| !is_example(line));
    assert_eq!(Config::parse(&defaults).expect("is right"), Config::default());
    let all = uncomment(&shipped, |_| true);
    Config::parse(&all).expect("the examples are right");
    assert_eq!(keys_of(&all), keys());
}

#[test]
fn the_manual_page_names_every_key_in_its_section_and_no_other() {
    let page = document("packaging/volboot.toml.5");
    let mut section = None;
    let mut named = BTreeSet::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix(".SH ") {
            let name = heading.trim_matches('"');
            section = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                Some(name) => Some(format!("{name}.")),
                None => (name == "KEYS OUTSIDE OF ANY SECTION").then(String::new),
            };
        } else if let (".TP", Some(section)) = (line, &section) {
            let key = lines.next().and_then(|tag| tag.split(' ').nth(1)).expect("a key");
            named.insert(format!("{section}{key}"));
        }
    }
    assert_eq!(named, keys());
}

#[test]
fn the_readme_shows_the_defaults() {
    let readme = document("README.md");
    let (_, after) = readme.split_once("\n```toml\n").expect("a TOML block");
    let (shown, _) = after.split_once("\n```\n").expect("its end");
    assert_eq!(Config::parse(shown).expect("is right"), Config::default());
    let mut told = keys_of(&uncomment(&shown.replace("\n# ", "\n#"), |_| true));
    // Some are told beside the others: `# or user_id`.
    for (section, line) in in_sections(shown) {
        told.extend(line.split_once("# or ").map(|(_, key)| format!("{section}.{key}")));
    }
    assert_eq!(told, keys());
}

#[test]
fn manual_pages_and_completions_come_from_the_command_line() {
    let made = tempfile::tempdir().expect("a directory");
    let status = volboot(&["generate", made.path().to_str().expect("text")]).status().expect("runs");
    assert!(status.success());
    let text = |name: &str| fs::read_to_string(made.path().join(name)).expect("text");
    for command in ["status", "nodes", "show", "follow", "enroll"] {
        let page = text(&format!("volboot-{command}.1"));
        assert!(page.contains("VOLBOOT_API"), "{page}");
    }
    for command in ["serve", "check-config", "images"] {
        for name in ["volboot.1", "volboot.bash", "volboot.fish", "_volboot"] {
            let text = text(name).replace("\\-", "-");
            assert!(text.contains(command), "{name} does not tell of {command}");
        }
        assert!(text(&format!("volboot-{command}.1")).contains("VOLBOOT_CONFIG"));
    }
    let page = text("volboot.1");
    assert!(page.contains("SIGHUP") && !page.contains("generate"), "{page}");
}
