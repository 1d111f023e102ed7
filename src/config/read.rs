//! Reads a TOML table key by key, with a default for a missing key and a diagnostic for an invalid value.
//!
//! The keys that the caller reads are the known keys. A key that remains at the end is a typing error; the diagnostic
//! suggests the most similar known key.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::{Table, Value};

use super::Diagnostic;

/// A table of the file while it is being read.
pub(super) struct Section {
    /// `http.` within `[http]`.
    prefix: String,
    remaining: Table,
    known_keys: Vec<&'static str>,
    /// All keys that the caller has read, those of nested tables included.
    keys: Vec<String>,
    diagnostics: Vec<Diagnostic>,
}

impl Section {
    pub(super) fn new(table: Table) -> Self {
        Self {
            prefix: String::new(),
            remaining: table,
            known_keys: Vec::new(),
            keys: Vec::new(),
            diagnostics: Vec::new(),
        }
    }

    /// All keys that the caller has read, as `http.listen`.
    pub(super) fn keys(self) -> Vec<String> {
        self.keys
    }

    /// Returns all diagnostics, those for unknown keys included.
    pub(super) fn finish(mut self) -> Vec<Diagnostic> {
        for key in std::mem::take(&mut self.remaining).keys() {
            let nearest =
                self.known_keys.iter().map(|known| (strsim::damerau_levenshtein(key, known), known)).min();
            let hint = match nearest {
                Some((distance, known)) if distance <= 1 + known.len() / 4 => {
                    format!("; did you mean {}{known}?", self.prefix)
                }
                _ => String::new(),
            };
            self.report(key, format!("unknown key{hint}"));
        }
        self.diagnostics
    }

    /// Reads a nested table; a missing table is read as an empty one.
    pub(super) fn section<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Self) -> T) -> T {
        self.known_keys.push(key);
        let table = match self.remaining.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(_) => {
                self.report(key, "expected a table".into());
                Table::new()
            }
        };
        let mut section = Self { prefix: format!("{}{key}.", self.prefix), ..Self::new(table) };
        let value = read(&mut section);
        self.keys.append(&mut section.keys);
        self.diagnostics.extend(section.finish());
        value
    }

    /// Reads a string and parses it.
    pub(super) fn value<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> T {
        match self.take(key) {
            None => default,
            Some(Value::String(text)) => {
                parse(&text).unwrap_or_else(|message| self.reject(key, message, default))
            }
            Some(_) => self.reject(key, "expected a string".into(), default),
        }
    }

    /// Reads an address with a port.
    pub(super) fn address(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        self.value(key, default, |text| {
            text.parse().map_err(|_| format!("expected an address and a port such as {default}"))
        })
    }

    /// Reads addresses with ports: a string, or a list of strings.
    pub(super) fn addresses(&mut self, key: &'static str, default: SocketAddr) -> Vec<SocketAddr> {
        match self.remaining.get_mut(key) {
            Some(Value::Array(items)) if items.is_empty() => {
                self.report(key, "expected at least one address and port".into());
            }
            Some(item @ Value::String(_)) => *item = Value::Array(vec![item.clone()]),
            _ => {}
        }
        let addresses = self.list(key, vec![default], |text| {
            text.parse().map_err(|_| format!("expected an address and a port such as {default}"))
        });
        let duplicate = (1..addresses.len()).find(|&at| addresses[..at].contains(&addresses[at]));
        if let Some(at) = duplicate.filter(|&at| addresses[at].port() != 0) {
            self.report(key, format!("{} is listed twice", addresses[at]));
        }
        addresses
    }

    /// Reads a list of strings and parses each.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        default: Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let items = match self.take(key) {
            None => return default,
            Some(Value::Array(items)) => items,
            Some(_) => return self.reject(key, "expected a list of strings".into(), default),
        };
        let mut values = Vec::new();
        for item in items {
            match item.as_str().map(&parse) {
                Some(Ok(value)) => values.push(value),
                Some(Err(message)) => self.report(key, message),
                None => self.report(key, "expected a list of strings".into()),
            }
        }
        values
    }

    /// Like [`Section::list`], but without a default: `None` for a missing key.
    pub(super) fn optional_list<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let is_set = self.remaining.contains_key(key);
        let values = self.list(key, Vec::new(), parse);
        is_set.then_some(values)
    }

    /// Reads one of several keywords.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let expected = join_choices(choices.iter().map(|(word, _)| word));
        match self.take(key) {
            None => default,
            Some(Value::String(text)) => match choices.iter().find(|(word, _)| *word == text) {
                Some((_, value)) => *value,
                None => self.reject(key, format!("\"{text}\" is not {expected}"), default),
            },
            Some(_) => self.reject(key, format!("expected a string: {expected}"), default),
        }
    }

    /// Reads a boolean.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        match self.take(key) {
            None => default,
            Some(Value::Boolean(value)) => value,
            Some(_) => self.reject(key, "expected true or false".into(), default),
        }
    }

    /// Reads a duration of number and unit, such as `24h`.
    pub(super) fn duration(&mut self, key: &'static str, default: Duration) -> Duration {
        self.value(key, default, |text| {
            parse_duration(text)
                .ok_or_else(|| "expected a duration such as \"24h\", \"30min\" or \"90s\"".to_owned())
        })
    }

    /// Reads a duration, or `off`, which is the default.
    pub(super) fn duration_or_off(&mut self, key: &'static str) -> Option<Duration> {
        self.value(key, None, |text| match text {
            "off" => Ok(None),
            text => parse_duration(text)
                .map(Some)
                .ok_or_else(|| "expected \"off\" or a duration such as \"15m\"".to_owned()),
        })
    }

    /// Reads an integer within a range.
    pub(super) fn number(&mut self, key: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let number = match self.take(key) {
            None => return default,
            Some(value) => value.as_integer().and_then(|number| u32::try_from(number).ok()),
        };
        number.filter(|number| range.contains(number)).unwrap_or_else(|| {
            let message = format!("expected an integer from {} to {}", range.start(), range.end());
            self.reject(key, message, default)
        })
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known_keys.push(key);
        self.keys.push(format!("{}{key}", self.prefix));
        self.remaining.remove(key)
    }

    fn report(&mut self, key: &str, message: String) {
        self.diagnostics.push(Diagnostic { key: Some(format!("{}{key}", self.prefix)), message });
    }

    /// Reports an error and returns the default.
    fn reject<T>(&mut self, key: &str, message: String, default: T) -> T {
        self.report(key, message);
        default
    }
}

/// Parses a positive duration of number and unit.
fn parse_duration(text: &str) -> Option<Duration> {
    let duration: Option<jiff::SignedDuration> = text.parse().ok();
    duration.filter(jiff::SignedDuration::is_positive).and_then(|span| span.try_into().ok())
}

/// Joins keywords: `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
fn join_choices(choices: impl Iterator<Item = impl Display>) -> String {
    let mut quoted: Vec<_> = choices.map(|choice| format!("\"{choice}\"")).collect();
    let last = quoted.pop().unwrap_or_default();
    if quoted.is_empty() { last } else { format!("{} or {last}", quoted.join(", ")) }
}
