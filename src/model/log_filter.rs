//! [`LogFilter`]: how much of what happens is logged.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The longest filter that is taken.
const LONGEST: usize = 500;

/// A level (`debug`), or levels of parts (`volboot::boot=trace,info`), as
/// [`EnvFilter`] reads them.
///
/// Stricter than that in one point: a part is given with its level. To `EnvFilter`, `inof` is a part of which all is
/// logged, and nothing of any other: one wrong letter would silence the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// Nothing, or too much.
    #[error("expected a level, or levels of parts, such as debug, or hyper=warn,info")]
    Size,
    /// What stands where a level should.
    #[error(
        "\"{0}\" is no level: expected off, error, warn, info, debug or trace, or, for parts, hyper=warn,info"
    )]
    Level(String),
    /// Parts that cannot be told from one another.
    #[error("\"{0}\" is no filter: expected a level, or levels of parts, such as debug, or hyper=warn,info")]
    Form(String),
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".into())
    }
}

impl FromStr for LogFilter {
    type Err = LogFilterError;

    fn from_str(text: &str) -> Result<Self, LogFilterError> {
        // `EnvFilter` would take a blank after a comma for a part of the name.
        let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() || text.len() > LONGEST {
            return Err(LogFilterError::Size);
        }
        for part in &parts {
            let level = part.rsplit('=').next().unwrap_or_default();
            // A span, `[boot{mac}]`, may go without: all of it is logged.
            if !level.ends_with(']') && (level.is_empty() || level.parse::<LevelFilter>().is_err()) {
                return Err(LogFilterError::Level(level.to_owned()));
            }
        }
        let filter = EnvFilter::builder().parse(parts.join(","));
        filter.map(|filter| Self(filter.to_string())).map_err(|_| LogFilterError::Form(text.to_owned()))
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        text.parse::<LogFilter>().map(|filter| filter.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_level_or_levels_of_parts() {
        for (text, filter) in [
            ("debug", "debug"),
            ("INFO", "info"),
            ("off", "off"),
            ("hyper::proto=trace,info", "hyper::proto=trace,info"),
            (" info, hyper=WARN ,", "hyper=warn,info"),
            ("[boot{mac}]=debug,warn", "warn,[boot{mac}]=debug"),
            ("volboot[boot],warn", "warn,volboot[boot]=trace"),
        ] {
            assert_eq!(read(text), Ok(filter.to_owned()));
            assert_eq!(read(filter), Ok(filter.to_owned()), "it is read as it is shown");
        }
        assert_eq!(read("info"), Ok(LogFilter::default().to_string()));
    }

    #[test]
    fn what_would_silence_the_log_by_mistake_is_refused() {
        let size = "expected a level, or levels of parts, such as debug, or hyper=warn,info";
        for text in ["", " ", ",", &"hyper=warn,".repeat(100)] {
            assert_eq!(read(text), Err(size.into()));
        }
        for (text, level) in [
            ("inof", "inof"),
            ("volboot=shout,info", "shout"),
            ("hyper::proto", "hyper::proto"),
            ("volboot=", ""),
        ] {
            let fault = read(text).expect_err("no filter");
            assert!(fault.starts_with(&format!("\"{level}\" is no level: expected off, error, ")), "{fault}");
        }
        for text in ["/boot=info", "[boot=info"] {
            let fault = read(text).expect_err("no filter");
            assert!(fault.starts_with(&format!("\"{text}\" is no filter: ")), "{fault}");
        }
    }
}
