//! Commands of README and the guides, typed by the tests as they stand.
//!
//! In a console block, a command begins with a prompt, `$` or `#`. Its continuation follows the shell's rules. All
//! other lines are output. A file is a block whose first line is a comment with the file's name.

const DOCUMENTS: [&str; 10] = [
    include_str!("../../README.md"),
    include_str!("../../packaging/doc/clients.md"),
    include_str!("../../packaging/doc/cluster.md"),
    include_str!("../../packaging/doc/configuration.md"),
    include_str!("../../packaging/doc/dhcp.md"),
    include_str!("../../packaging/doc/operations.md"),
    include_str!("../../packaging/doc/security.md"),
    include_str!("../../packaging/doc/tls.md"),
    include_str!("../../packaging/doc/troubleshooting.md"),
    include_str!("../../packaging/doc/volumes.md"),
];

/// The commands of the console block that contains `part`; the block must be unique.
pub(crate) fn block(part: &str) -> Vec<String> {
    let mut matches = blocks().filter(|commands| commands.iter().any(|command| command.contains(part)));
    match (matches.next(), matches.next()) {
        (Some(commands), None) => commands,
        (None, _) => panic!("no console block contains {part:?}"),
        _ => panic!("several console blocks contain {part:?}"),
    }
}

/// The command that contains `part`; the command must be unique.
pub(crate) fn command(part: &str) -> String {
    let mut matches = blocks().flatten().filter(|command| command.contains(part));
    match (matches.next(), matches.next()) {
        (Some(command), None) => command,
        (None, _) => panic!("no command contains {part:?}"),
        _ => panic!("several commands contain {part:?}"),
    }
}

/// The file `name`, which begins with the comment `# NAME`; the file must be unique.
pub(crate) fn file(name: &str) -> &'static str {
    let start = format!("\n# {name}\n");
    let mut matches = DOCUMENTS.iter().flat_map(|text| text.split("\n```")).filter_map(|block| {
        let (_language, content) =
            block.split_once(&start).filter(|(language, _)| !language.contains('\n'))?;
        Some(content)
    });
    match (matches.next(), matches.next()) {
        (Some(content), None) => content,
        (None, _) => panic!("no document has the file {name:?}"),
        _ => panic!("several documents have the file {name:?}"),
    }
}

/// The row for `server` in README's table of DHCP servers.
pub(crate) fn row(server: &str) -> Row {
    let start = format!("| {server} | `");
    let line = DOCUMENTS[0].lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("README has no row for {server:?}"));
    let mut code_spans = line.split('`').skip(1).step_by(2);
    let command = code_spans.next().expect("a command");
    Row { command, rest: code_spans.collect() }
}

/// The commands that set up one of the DHCP servers.
pub(crate) struct Row {
    command: &'static str,
    rest: Vec<&'static str>,
}

impl Row {
    /// The command that installs the configuration file.
    pub(crate) fn command(&self) -> &'static str {
        self.command
    }

    /// The commands that activate the file.
    pub(crate) fn activation(&self) -> String {
        let commands = self
            .rest
            .iter()
            .filter(|text| ["systemctl ", "networkctl "].iter().any(|start| text.starts_with(start)));
        commands.copied().collect::<Vec<_>>().join(" && ")
    }
}

fn blocks() -> impl Iterator<Item = Vec<String>> {
    let blocks = DOCUMENTS.iter().flat_map(|text| text.split("```console\n").skip(1));
    blocks.map(|rest| commands(rest.split("```").next().expect("the end of the block")))
}

fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in block.lines() {
        match commands.last_mut() {
            Some(command) if is_incomplete(command) => *command += &format!("\n{line}"),
            _ => commands
                .extend(["$ ", "# "].iter().find_map(|prompt| line.strip_prefix(prompt)).map(str::to_owned)),
        }
    }
    commands
}

/// Whether the shell would wait for more input: a joined line, an open quote, or an open here-document.
fn is_incomplete(command: &str) -> bool {
    let here_document = command.contains("<<EOF") && !command.ends_with("\nEOF");
    command.ends_with('\\') || command.matches('\'').count() % 2 == 1 || here_document
}
