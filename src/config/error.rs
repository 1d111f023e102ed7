//! Errors in a configuration file, and their text.

use std::fmt;
use std::path::PathBuf;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Reading the file failed.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The file has errors.
    #[error("{}: {}", .path.display(), format_diagnostics(.diagnostics))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All errors.
        diagnostics: Vec<Diagnostic>,
    },
}

/// One error in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The key, such as `http.listen`; `None` for a TOML syntax error.
    pub key: Option<String>,
    /// The error.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// Formats diagnostics, one per line.
pub(crate) fn format_diagnostics(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [diagnostic] => diagnostic.to_string(),
        many => {
            let lines: Vec<_> = many.iter().map(ToString::to_string).collect();
            format!("{} errors:\n  {}", many.len(), lines.join("\n  "))
        }
    }
}
