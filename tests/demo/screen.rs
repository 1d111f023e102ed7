//! The demo's output: steps with the time, and between them the machine's console and volboot's log.
//!
//! Several threads write, each a whole line at a time. Colour only on a terminal, and not with `NO_COLOR`
//! (no-color.org).

use std::env;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

/// The fields of every log line, which the demo leaves out.
const ENVELOPE: [&str; 4] = ["timestamp", "level", "message", "target"];

/// A shared screen; clones write to the same output.
#[derive(Clone)]
pub(crate) struct Screen {
    started: Instant,
    colour: bool,
    stdout: Arc<Mutex<io::Stdout>>,
}

impl Screen {
    /// Uses standard output.
    pub(crate) fn new() -> Self {
        let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = io::stdout().is_terminal() && !no_color;
        Self { started: Instant::now(), colour, stdout: Arc::new(Mutex::new(io::stdout())) }
    }

    /// Prints a step, with the time since the start.
    pub(crate) fn step(&self, text: &str) {
        self.print("1", &format!("{}  {text}", seconds(self.started.elapsed())));
    }

    /// Prints a message.
    pub(crate) fn message(&self, text: &str) {
        self.print("1", text);
    }

    /// Prints a row of a table.
    pub(crate) fn row(&self, text: &str) {
        self.print("0", text);
    }

    /// Prints a line of the machine's console.
    pub(crate) fn console(&self, line: &str) {
        self.print("36", &format!("            | {line}"));
    }

    /// Prints a line of volboot's log: the message and its fields, without the envelope.
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
        let mut stdout = self.stdout.lock();
        // Errors are ignored: without a reader the demo still has to clean up.
        let _ = if self.colour {
            writeln!(stdout, "\x1b[{style}m{text}\x1b[0m")
        } else {
            writeln!(stdout, "{text}")
        };
    }
}

/// Formats a duration in seconds, as a column of constant width.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:6.1} s", time.as_secs_f64())
}
