//! What README tells people to type.
//!
//! A command begins with a prompt, `$` or `#`. It goes on in the next line as it would in a shell; any other line is what
//! it prints.

/// The commands of the one console block that has `part` in it.
pub(crate) fn block(part: &str) -> Vec<String> {
    let mut found = blocks().filter(|commands| commands.iter().any(|command| command.contains(part)));
    match (found.next(), found.next()) {
        (Some(commands), None) => commands,
        (None, _) => panic!("README has no console block with {part:?}"),
        _ => panic!("README has {part:?} in several blocks"),
    }
}

/// The one command with `part` in it.
pub(crate) fn command(part: &str) -> String {
    let mut found = blocks().flatten().filter(|command| command.contains(part));
    match (found.next(), found.next()) {
        (Some(command), None) => command,
        (None, _) => panic!("README has no command with {part:?}"),
        _ => panic!("README has several commands with {part:?}"),
    }
}

/// The line of the table of DHCP servers for the one that is called so.
pub(crate) fn row(server: &str) -> Row {
    let start = format!("| {server} | `");
    let line = text().lines().find(|line| line.starts_with(&start));
    let mut quoted =
        line.unwrap_or_else(|| panic!("README has no row for {server:?}")).split('`').skip(1).step_by(2);
    let command = quoted.next().expect("what is copied");
    Row { command, rest: quoted.collect() }
}

/// What has to be done for one of the DHCP servers.
pub(crate) struct Row {
    command: &'static str,
    rest: Vec<&'static str>,
}

impl Row {
    /// What puts the file where it goes.
    pub(crate) fn command(&self) -> &'static str {
        self.command
    }

    /// What puts it in force.
    pub(crate) fn then(&self) -> String {
        let commands = self
            .rest
            .iter()
            .filter(|text| ["systemctl ", "networkctl "].iter().any(|start| text.starts_with(start)));
        commands.copied().collect::<Vec<_>>().join(" && ")
    }
}

fn text() -> &'static str {
    include_str!("../../README.md")
}

fn blocks() -> impl Iterator<Item = Vec<String>> {
    let blocks = text().split("```console\n").skip(1);
    blocks.map(|rest| commands(rest.split("```").next().expect("an end")))
}

fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    for line in block.lines() {
        match commands.last_mut() {
            Some(command) if goes_on(command) => *command += &format!("\n{line}"),
            _ => commands
                .extend(["$ ", "# "].iter().find_map(|prompt| line.strip_prefix(prompt)).map(str::to_owned)),
        }
    }
    commands
}

/// Whether a shell would ask for more: a line that is to be joined, a text in quotes, a file that has not ended.
fn goes_on(command: &str) -> bool {
    let file = command.contains("<<EOF") && !command.ends_with("\nEOF");
    command.ends_with('\\') || command.matches('\'').count() % 2 == 1 || file
}
