//! What can be wrong with a configuration, and how it is told.

use std::fmt;
use std::path::PathBuf;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It says what cannot be meant.
    #[error("{}: {}", .path.display(), all(.faults))]
    Faults {
        /// The file.
        path: PathBuf,
        /// All of them.
        faults: Vec<Fault>,
    },
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The key, such as `http.listen`; none if the file is no TOML.
    pub key: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Faults as a text of one line each.
pub(crate) fn all(faults: &[Fault]) -> String {
    match faults {
        [one] => one.to_string(),
        many => {
            let lines: Vec<_> = many.iter().map(ToString::to_string).collect();
            format!("{} faults:\n  {}", many.len(), lines.join("\n  "))
        }
    }
}
