//! Reading a TOML table key by key: a default for what is not said, a fault for what cannot be meant.
//!
//! The keys that are asked for are the keys there are: what is left over at the end is a typing error, and the
//! nearest key that was asked for is most likely what was meant.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use super::Fault;

/// A table of the file, while it is read.
pub(super) struct Section {
    /// `http.` within `[http]`.
    prefix: String,
    left: Table,
    known: Vec<&'static str>,
    /// All keys that were asked for, those of tables within this one included.
    keys: Vec<String>,
    faults: Vec<Fault>,
}

impl Section {
    pub(super) fn new(table: Table) -> Self {
        Self { prefix: String::new(), left: table, known: Vec::new(), keys: Vec::new(), faults: Vec::new() }
    }

    /// All keys that were asked for, as `http.listen`.
    pub(super) fn keys(self) -> Vec<String> {
        self.keys
    }

    /// All that was found to be wrong, the keys nobody asked for included.
    pub(super) fn finish(mut self) -> Vec<Fault> {
        for key in std::mem::take(&mut self.left).keys() {
            let near = self.known.iter().map(|known| (strsim::damerau_levenshtein(key, known), known)).min();
            let hint = match near {
                Some((distance, known)) if distance <= 1 + known.len() / 4 => {
                    format!("; did you mean {}{known}?", self.prefix)
                }
                _ => String::new(),
            };
            self.fault(key, format!("there is no such key{hint}"));
        }
        self.faults
    }

    /// A table within this one. One that is not there is an empty one.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.known.push(key);
        let table = match self.left.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.fault(key, "expected a table".into());
                Table::new()
            }
        };
        let mut section = Self { prefix: format!("{}{key}.", self.prefix), ..Self::new(table) };
        let value = read(&mut section);
        self.keys.append(&mut section.keys);
        self.faults.extend(section.finish());
        value
    }

    /// A text that means something.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        match self.take(key) {
            None => default,
            Some(Value::String(text)) => {
                parse(&text).unwrap_or_else(|message| self.instead(key, message, default))
            }
            Some(_) => self.instead(key, "expected a text".into(), default),
        }
    }

    /// An address and a port.
    pub(super) fn parsed(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        self.value(key, default, |text| {
            text.parse().map_err(|_| format!("expected an address and a port such as {default}"))
        })
    }

    /// Addresses and ports: a text, or a list of texts.
    pub(super) fn addresses(&mut self, key: &'static str, default: SocketAddr) -> Vec<SocketAddr> {
        match self.left.get_mut(key) {
            Some(Value::Array(none)) if none.is_empty() => {
                self.fault(key, "expected at least one address and port".into());
            }
            Some(text @ Value::String(_)) => *text = Value::Array(vec![text.clone()]),
            _ => {}
        }
        let addresses = self.list(key, vec![default], |text| {
            text.parse().map_err(|_| format!("expected an address and a port such as {default}"))
        });
        let twice = (1..addresses.len()).find(|&at| addresses[..at].contains(&addresses[at]));
        if let Some(at) = twice.filter(|&at| addresses[at].port() != 0) {
            self.fault(key, format!("{} is listed twice", addresses[at]));
        }
        addresses
    }

    /// A list of texts that mean something.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let items = match self.take(key) {
            None => return default,
            Some(Value::Array(items)) => items,
            Some(_) => return self.instead(key, "expected a list of texts".into(), default),
        };
        let mut values = Vec::new();
        for item in items {
            match item.as_str().map(&parse) {
                Some(Ok(value)) => values.push(value),
                Some(Err(message)) => self.fault(key, message),
                None => self.fault(key, "expected a list of texts".into()),
            }
        }
        values
    }

    /// One of several words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let words = words(choices.iter().map(|(word, _)| word));
        match self.take(key) {
            None => default,
            Some(Value::String(text)) => match choices.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => *value,
                None => self.instead(key, format!("\"{text}\" is not {words}"), default),
            },
            Some(_) => self.instead(key, format!("expected a text: {words}"), default),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Boolean(value)) => value,
            Some(_) => self.instead(key, "expected true or false".into(), default),
        }
    }

    /// A time: number and unit, such as `24h`.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.value(key, default, |text| {
            let time: Option<jiff::SignedDuration> = text.parse().ok();
            let positive =
                time.filter(jiff::SignedDuration::is_positive).and_then(|time| time.try_into().ok());
            positive.ok_or_else(|| "expected a time such as \"24h\", \"30min\" or \"90s\"".to_owned())
        })
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let number = match self.take(key) {
            None => return default,
            Some(value) => value.as_integer().and_then(|number| u32::try_from(number).ok()),
        };
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            let message = format!("expected a whole number from {} to {}", range.start(), range.end());
            self.instead(key, message, default)
        })
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.keys.push(format!("{}{key}", self.prefix));
        self.left.remove(key)
    }

    fn fault(&mut self, key: &str, message: String) {
        self.faults.push(Fault { key: Some(format!("{}{key}", self.prefix)), message });
    }

    fn instead<T>(&mut self, key: &str, message: String, default: T) -> T {
        self.fault(key, message);
        default
    }
}

/// `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
fn words(words: impl Iterator<Item = impl Display>) -> String {
    let mut words: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
    let last = words.pop().unwrap_or_default();
    if words.is_empty() { last } else { format!("{} or {last}", words.join(", ")) }
}
