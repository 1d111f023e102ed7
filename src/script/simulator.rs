//! Simulator for tests: runs a script by iPXE's rules on a machine with several network cards.
//!
//! The rules of lines are those of `src/core/exec.c`, of `${…}` those of `src/core/settings.c`, of cards those of
//! `src/hci/commands/ifmgmt_cmd.c`.

use std::collections::BTreeMap;

use super::tokens;

/// A network card, closed at first.
#[derive(Debug, Clone, Default)]
pub(super) struct SimulatedCard {
    /// Setting `ip`: the firmware's lease.
    pub(super) lease: bool,
    /// Setting `dhcp/ip6`: the firmware used this card with IPv6.
    pub(super) firmware_ip6: bool,
    /// The setting that `dhcp` adds, such as `ip`; `None` if the network has no DHCP server and no router.
    pub(super) dhcp: Option<&'static str>,
    /// `${errno}` of a request through this card; `None` if it is answered.
    pub(super) error: Option<&'static str>,
}

/// A simulated machine.
#[derive(Debug, Default)]
pub(super) struct SimulatedMachine {
    cards: Vec<SimulatedCard>,
    /// The settings of each card that `dhcp` added.
    added: Vec<Vec<&'static str>>,
    /// The open cards, the last opened first.
    open: Vec<usize>,
    variables: BTreeMap<String, String>,
    /// The card of each request.
    pub(super) requests: Vec<Option<usize>>,
    /// Each run of `dhcp` on a card.
    pub(super) dhcp_runs: Vec<usize>,
}

/// The effect of a command on the script.
enum Flow {
    Result(bool),
    Goto(String),
    End(bool),
}

impl SimulatedMachine {
    /// A machine with these cards; card `open` is open.
    pub(super) fn new(cards: Vec<SimulatedCard>, open: Option<usize>) -> Self {
        Self { added: vec![vec![]; cards.len()], cards, open: open.into_iter().collect(), ..Self::default() }
    }

    /// Runs the script; returns whether it got the next one.
    pub(super) fn run(&mut self, script: &str) -> bool {
        let lines = tokens::lines(script);
        let mut at = 1;
        for _ in 0..10_000 {
            let line = lines.get(at).expect("the script ends by a command");
            at += 1;
            match self.run_line(line) {
                Flow::Result(true) => {}
                Flow::Result(false) => panic!("the script is aborted at {line:?}"),
                Flow::Goto(label) => {
                    let label = format!(":{label}");
                    at = 1 + lines.iter().position(|line| line[0] == label).expect("the label exists");
                }
                Flow::End(booted) => return booted,
            }
        }
        panic!("the script does not end: {:?}", self.requests);
    }

    /// Runs the commands of a line, each according to the result of the last one.
    fn run_line(&mut self, line: &[String]) -> Flow {
        if line[0].starts_with(':') {
            return Flow::Result(true);
        }
        let (mut result, mut runs) = (true, true);
        for part in line.split_inclusive(|word| word == "||" || word == "&&") {
            let (command, operator) = match part.split_last() {
                Some((last, command)) if last == "||" || last == "&&" => (command, Some(last.as_str())),
                _ => (part, None),
            };
            if runs {
                match self.run_command(command) {
                    Flow::Result(success) => result = success,
                    flow => return flow,
                }
            }
            runs = (operator == Some("&&")) == result;
        }
        // An operator at the end runs the empty command, which succeeds.
        let is_handled = line.last().is_some_and(|word| word == "||");
        Flow::Result(result || is_handled)
    }

    fn run_command(&mut self, command: &[String]) -> Flow {
        let words: Vec<_> = command.iter().map(|word| self.expand(word)).collect();
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        Flow::Result(match words.as_slice() {
            [] | ["echo" | "sleep", ..] => true,
            ["isset", value] => !value.is_empty(),
            ["iseq", a, b] => a == b,
            ["set", name, value @ ..] => {
                let name = name.split(':').next().unwrap_or_default();
                self.variables.insert(name.to_owned(), value.join(" "));
                true
            }
            ["inc", name] => {
                let number: u32 = self.variables[*name].parse().expect("a number");
                self.variables.insert((*name).to_owned(), (number + 1).to_string());
                true
            }
            ["goto", label] => return Flow::Goto((*label).to_owned()),
            ["exit", _] => return Flow::End(false),
            ["dhcp"] => (0..self.cards.len()).any(|card| self.configure(card)),
            ["dhcp", card] => self.find_card(card).is_some_and(|card| self.configure(card)),
            ["ifclose"] => {
                self.open.clear();
                true
            }
            ["ifopen", card] | ["iflinkwait", "--timeout", _, card] => match self.find_card(card) {
                Some(card) => self.open_card(card),
                None => false,
            },
            ["chain", ..] => {
                assert!(self.open.len() < 2, "a request may leave through any of {:?}", self.open);
                let card = self.open.first().copied();
                self.requests.push(card);
                let error = card.map_or(Some("0x280a6090"), |card| self.cards[card].error);
                let Some(error) = error else { return Flow::End(true) };
                self.variables.insert("errno".to_owned(), error.to_owned());
                false
            }
            other => panic!("{other:?} is no command of the simulator"),
        })
    }

    fn open_card(&mut self, card: usize) -> bool {
        if !self.open.contains(&card) {
            self.open.insert(0, card);
        }
        true
    }

    /// `dhcp` on a card, which is closed again after a failure.
    fn configure(&mut self, card: usize) -> bool {
        self.dhcp_runs.push(card);
        self.open.retain(|other| *other != card);
        let Some(setting) = self.cards[card].dhcp else { return false };
        self.added[card].push(setting);
        self.open_card(card)
    }

    fn find_card(&self, name: &str) -> Option<usize> {
        match name {
            "netX" => self.open.first().copied(),
            name => name.strip_prefix("net")?.parse().ok().filter(|card| *card < self.cards.len()),
        }
    }

    /// Expands `${…}`, the innermost first.
    fn expand(&self, word: &str) -> String {
        let mut word = word.to_owned();
        while let Some(end) = word.find('}') {
            let Some(start) = word[..end].rfind("${") else { break };
            let value = self.setting(&word[start + 2..end]);
            word.replace_range(start..=end, &value);
        }
        word
    }

    /// The value of a setting, such as `rc`, `net0/mac:hexhyp` or `netX.ndp.0/ip6`; empty if it does not exist.
    fn setting(&self, name: &str) -> String {
        let name = name.split(':').next().unwrap_or_default();
        let Some((block, setting)) = name.split_once('/') else {
            return self.variables.get(name).cloned().unwrap_or_default();
        };
        let (card, child) = block.split_once('.').unwrap_or((block, ""));
        let Some(card) = self.find_card(card) else { return String::new() };
        let path = if child.is_empty() { setting.to_owned() } else { format!("{child}/{setting}") };
        let exists = match path.as_str() {
            "mac" => return format!("52-54-00-00-00-{card:02x}"),
            "ifname" => return format!("net{card}"),
            "ip" => self.cards[card].lease || self.added[card].contains(&"ip"),
            "dhcp/ip6" => self.cards[card].firmware_ip6,
            path => self.added[card].contains(&path),
        };
        if exists { "address".to_owned() } else { String::new() }
    }
}
