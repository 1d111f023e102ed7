//! What the person in front of the demo sees: steps with the time, and between them what machine and daemon
//! print.
//!
//! Several threads write; each line is written whole. Colour only on a terminal, and not with `NO_COLOR`
//! (no-color.org).

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What every line of a log has, and nobody needs in front of a demo.
const ENVELOPE: [&str; 4] = ["timestamp", "level", "message", "target"];

/// A shared screen; cloning gives another hand on the same one.
#[derive(Clone)]
pub(crate) struct Screen {
    started: Instant,
    colour: bool,
    paper: Arc<Mutex<io::Stdout>>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let plain = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = io::stdout().is_terminal() && !plain;
        Self { started: Instant::now(), colour, paper: Arc::new(Mutex::new(io::stdout())) }
    }

    /// A step, with the time since the start.
    pub(crate) fn step(&self, text: &str) {
        self.print("1", &format!("{}  {text}", seconds(self.started.elapsed())));
    }

    /// A line that stands by itself.
    pub(crate) fn say(&self, text: &str) {
        self.print("1", text);
    }

    /// A row of a table.
    pub(crate) fn row(&self, text: &str) {
        self.print("0", text);
    }

    /// A line of the machine's console.
    pub(crate) fn console(&self, line: &str) {
        self.print("36", &format!("            | {line}"));
    }

    /// A line of volboot's log: its message and fields, without the envelope.
    pub(crate) fn log(&self, line: &str) {
        let Ok(Value::Object(event)) = serde_json::from_str(line) else {
            return self.print("33", &format!("    volboot > {line}"));
        };
        let message = event.get("message").and_then(Value::as_str).unwrap_or_default();
        let fields = event.iter().filter(|(name, _)| !ENVELOPE.contains(&name.as_str()));
        let fields: Vec<String> = fields.map(|(name, value)| format!("{name}={value}")).collect();
        self.print("33", format!("    volboot > {message} {}", fields.join(" ")).trim_end());
    }

    fn print(&self, style: &str, text: &str) {
        let mut paper = self.paper.lock().unwrap_or_else(PoisonError::into_inner);
        // A reader that has gone away is no reason to stop half-way without cleaning up.
        let _gone = if self.colour {
            writeln!(paper, "\x1b[{style}m{text}\x1b[0m")
        } else {
            writeln!(paper, "{text}")
        };
    }
}

/// A duration in seconds, in a column of its own.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:6.1} s", time.as_secs_f64())
}
