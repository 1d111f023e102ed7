//! Tests that the documents describe the configuration and the commands as the code implements them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use volboot::config::Config;
use volboot::telemetry::errno::{self, Meaning};

use crate::daemon::volboot;
use crate::source_files::read_all;

fn document(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("text")
}

fn keys() -> BTreeSet<String> {
    Config::keys().into_iter().collect()
}

/// The keys of a TOML text, as `http.listen`.
fn keys_of(text: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    collect_keys("", text.parse().expect("is TOML"), &mut keys);
    keys
}

fn collect_keys(prefix: &str, table: toml::Table, keys: &mut BTreeSet<String>) {
    for (name, value) in table {
        match value {
            toml::Value::Table(section) => collect_keys(&format!("{prefix}{name}."), section, keys),
            _ => assert!(keys.insert(format!("{prefix}{name}"))),
        }
    }
}

/// Whether the line shows an example, because the key has no default.
fn is_example(line: &str) -> bool {
    line.contains("(example)")
}

/// Removes the comment sign from lines such as `#key = value`.
fn uncomment(text: &str, select: impl Fn(&str) -> bool) -> String {
    let uncommented = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if key.starts_with(|c: char| c.is_ascii_lowercase()) && select(line) => key,
        _ => line,
    });
    uncommented.collect::<Vec<_>>().join("\n")
}

/// Each line with its section.
fn lines_with_section(text: &str) -> Vec<(&str, &str)> {
    let mut section = "";
    let lines = text.lines().map(|line| {
        let name = line.strip_prefix('[').and_then(|line| line.split(']').next());
        section = name.unwrap_or(section);
        (section, line)
    });
    lines.collect()
}

#[test]
fn shipped_configuration_has_every_key_with_its_default() {
    let shipped = document("packaging/volboot.toml");
    assert_eq!(keys_of(&shipped), BTreeSet::new(), "the shipped file must set no key");
    let defaults = uncomment(&shipped, |line| !is_example(line));
    assert_eq!(Config::parse(&defaults).expect("is valid"), Config::default());
    let all = uncomment(&shipped, |_| true);
    Config::parse(&all).expect("the examples are valid");
    assert_eq!(keys_of(&all), keys());
}

/// The keys that a text names as `[section] key`.
fn named_keys(text: &str) -> Vec<String> {
    let after_brackets = text.split('[').skip(1).filter_map(|part| part.split_once("] "));
    let named = after_brackets.filter_map(|(section, rest)| {
        let key = rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next()?;
        let is_section = keys().iter().any(|known| known.starts_with(&format!("{section}.")));
        (is_section && !key.is_empty()).then(|| format!("{section}.{key}"))
    });
    named.collect()
}

#[test]
fn the_keys_that_documents_and_messages_name_exist() {
    let names =
        ["README.md", "CHANGELOG.md", "packaging/volboot.toml.5", "packaging/prometheus/volboot.rules.yml"];
    let guides = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/doc")).expect("lists");
    let guides = guides.map(|entry| entry.expect("lists").path());
    let paths: Vec<_> = names.iter().map(PathBuf::from).chain(guides).collect();
    let text_of = |path: &PathBuf| (path.clone(), document(path.to_str().expect("text")));
    let mut unknown = Vec::new();
    for (path, text) in paths.iter().map(text_of).chain(read_all("src")) {
        // In the code, another word may follow the section in a sentence.
        let is_key =
            |key: &String| path.extension().is_none_or(|extension| extension != "rs") || key.contains('_');
        let found = named_keys(&text).into_iter().filter(is_key);
        unknown.extend(
            found.filter(|key| !keys().contains(key)).map(|key| format!("{}: {key}", path.display())),
        );
    }
    assert!(unknown.is_empty(), "\n{}", unknown.join("\n"));
}

#[test]
fn manual_page_has_every_key_in_its_section() {
    let page = document("packaging/volboot.toml.5");
    let mut section = None;
    let mut documented = BTreeSet::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix(".SH ") {
            let name = heading.trim_matches('"');
            section = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
                Some(name) => Some(format!("{name}.")),
                None => (name == "TOP-LEVEL KEYS").then(String::new),
            };
        } else if let (".TP", Some(section)) = (line, &section) {
            let key = lines.next().and_then(|tag| tag.split(' ').nth(1)).expect("a key");
            documented.insert(format!("{section}{key}"));
        }
    }
    assert_eq!(documented, keys());
}

#[test]
fn configuration_guide_has_every_key_with_its_default() {
    let guide = document("packaging/doc/configuration.md");
    let (_, rest) = guide.split_once("\n```toml\n").expect("has a TOML block");
    let (example, _) = rest.split_once("\n```\n").expect("the block has an end");
    assert_eq!(Config::parse(example).expect("is valid"), Config::default());
    let mut documented = keys_of(&uncomment(&example.replace("\n# ", "\n#"), |_| true));
    // A comment may name an alternative key: `# or user_id`.
    for (section, line) in lines_with_section(example) {
        documented.extend(line.split_once("# or ").map(|(_, key)| format!("{section}.{key}")));
    }
    assert_eq!(documented, keys());
}

#[test]
fn manual_pages_and_completions_are_generated_from_the_command_line() {
    let directory = tempfile::tempdir().expect("creates a directory");
    let status = volboot(&["generate", directory.path().to_str().expect("text")]).status().expect("runs");
    assert!(status.success());
    let text = |name: &str| fs::read_to_string(directory.path().join(name)).expect("text");
    for command in ["status", "nodes", "show", "check", "follow", "enroll"] {
        let page = text(&format!("volboot-{command}.1"));
        assert!(page.contains("VOLBOOT_API"), "{page}");
    }
    for command in ["serve", "check-config", "images"] {
        for name in ["volboot.1", "volboot.bash", "volboot.fish", "_volboot"] {
            let text = text(name).replace("\\-", "-");
            assert!(text.contains(command), "{name} does not mention {command}");
        }
        assert!(text(&format!("volboot-{command}.1")).contains("VOLBOOT_CONFIG"));
    }
    let page = text("volboot.1");
    assert!(page.contains("SIGHUP") && !page.contains("generate") && !page.contains("inspect"), "{page}");
}

/// The documents of the repository, by path.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guides = fs::read_dir(root.join("packaging/doc")).expect("a folder");
    let mut paths: Vec<_> = guides.map(|entry| entry.expect("readable entry").path()).collect();
    paths.extend(
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "images/README.md"].map(|name| root.join(name)),
    );
    paths
}

#[test]
fn links_between_documents_resolve() {
    let mut broken = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).expect("UTF-8");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = path.with_file_name("").join(file);
            let heading = |line: &str| {
                line.starts_with('#')
                    && line.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-") == anchor
            };
            let resolves = file.exists()
                && (anchor.is_empty() || fs::read_to_string(&file).expect("UTF-8").lines().any(heading));
            if !resolves {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// The guide's table of error numbers. Adjacent errors with the same meaning share a row.
fn error_table() -> String {
    let mut rows: Vec<(Vec<String>, Meaning)> = Vec::new();
    for (digits, meaning) in errno::list_meanings() {
        let number = format!("`{digits}…`");
        match rows.last_mut() {
            Some((numbers, last)) if *last == meaning => numbers.push(number),
            _ => rows.push((vec![number], meaning)),
        }
    }
    let rows = rows.into_iter().map(|(numbers, Meaning { cause, advice })| {
        // A backslash is an escape character in Markdown.
        format!("| {} | {cause} | {} |\n", numbers.join(", "), advice.replace('\\', "\\\\"))
    });
    rows.collect::<Vec<_>>().concat()
}

/// The verdicts and the guide have the same meanings. With `BLESS=1` in the environment, the test writes the guide's table.
#[test]
fn guide_explains_the_error_numbers_as_the_verdicts_do() {
    const HEAD: &str = "\n| error number | cause | remedy |\n|---|---|---|\n";
    let guide = document("packaging/doc/troubleshooting.md");
    let (before, rest) = guide.split_once(HEAD).expect("the table of error numbers");
    let (table, after) = rest.split_once("\nAfter the boot loader").expect("the end of the table");
    let expected = error_table();
    if std::env::var_os("BLESS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/doc/troubleshooting.md");
        fs::write(path, format!("{before}{HEAD}{expected}\nAfter the boot loader{after}")).expect("written");
    } else {
        assert!(table == expected, "the table differs; BLESS=1 accepts this:\n{expected}");
    }
}

#[test]
fn explained_console_messages_are_in_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut code: String = read_all("src").into_iter().map(|(_, text)| text.replace("\\\"", "\"")).collect();
    for entry in fs::read_dir(root.join("templates")).expect("a folder") {
        let path = entry.expect("readable entry").path();
        if path.extension().is_some_and(|extension| extension == "ipxe") {
            code += &fs::read_to_string(path).expect("UTF-8");
        }
    }
    let guide = document("packaging/doc/troubleshooting.md");
    let (_, rest) = guide.split_once("begins with `volboot:`").expect("the table of messages");
    let (table, _) = rest.split_once("\nFailed steps").expect("the end of the table");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let messages: Vec<_> = rows
        .filter_map(|row| row.split(" | ").next())
        .flat_map(|cell| cell.split('`').step_by(2))
        .flat_map(|message| message.split(['…', '"']))
        .map(|part| part.trim_start_matches("warning: ").trim_matches([' ', ':', ';', ',']))
        .filter(|part| part.len() > 4)
        .collect();
    assert!(messages.len() > 15, "the parser finds {messages:?} only");
    let missing: Vec<_> = messages.iter().filter(|part| !code.contains(**part)).collect();
    assert!(missing.is_empty(), "not in the code: {missing:#?}");
}
