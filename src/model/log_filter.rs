//! [`LogFilter`]: the log level, overall or per target.

use std::fmt;
use std::str::FromStr;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The most bytes of a filter.
const MAX_LENGTH: usize = 500;

/// A level (`debug`), or levels per target (`volboot::boot=trace,info`), in the syntax of [`EnvFilter`].
///
/// Stricter than `EnvFilter` in one point: a target needs a level. `EnvFilter` reads `inof` as a target at level
/// trace, with all other targets off: one typing error would silence the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

/// A text is not a valid filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogFilterError {
    /// The text is empty or too long.
    #[error("expected a level or levels per target, such as debug or hyper=warn,info")]
    Size,
    /// A level is missing or unknown.
    #[error(
        "\"{0}\" is not a level: expected off, error, warn, info, debug or trace; per target: hyper=warn,info"
    )]
    Level(String),
    /// The text is not in `EnvFilter`'s syntax.
    #[error(
        "\"{0}\" is not a log filter: expected a level or levels per target, such as debug or hyper=warn,info"
    )]
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
        // `EnvFilter` would read a blank after a comma as part of the target's name.
        let parts: Vec<_> = text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect();
        if parts.is_empty() || text.len() > MAX_LENGTH {
            return Err(LogFilterError::Size);
        }
        for part in &parts {
            let level = part.rsplit('=').next().unwrap_or_default();
            // A span, `[boot{mac}]`, needs no level: the default is trace.
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

    fn parse(text: &str) -> Result<String, String> {
        text.parse::<LogFilter>().map(|filter| filter.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn parses_a_level_or_levels_per_target() {
        for (text, filter) in [
            ("debug", "debug"),
            ("INFO", "info"),
            ("off", "off"),
            ("hyper::proto=trace,info", "hyper::proto=trace,info"),
            (" info, hyper=WARN ,", "hyper=warn,info"),
            ("[boot{mac}]=debug,warn", "warn,[boot{mac}]=debug"),
            ("volboot[boot],warn", "warn,volboot[boot]=trace"),
        ] {
            assert_eq!(parse(text), Ok(filter.to_owned()));
            assert_eq!(parse(filter), Ok(filter.to_owned()), "a displayed filter parses to itself");
        }
        assert_eq!(parse("info"), Ok(LogFilter::default().to_string()));
    }

    #[test]
    fn refuses_typing_errors_that_would_silence_the_log() {
        let size = "expected a level or levels per target, such as debug or hyper=warn,info";
        for text in ["", " ", ",", &"hyper=warn,".repeat(100)] {
            assert_eq!(parse(text), Err(size.into()));
        }
        for (text, level) in [
            ("inof", "inof"),
            ("volboot=shout,info", "shout"),
            ("hyper::proto", "hyper::proto"),
            ("volboot=", ""),
        ] {
            let error = parse(text).expect_err("is refused");
            assert!(
                error.starts_with(&format!("\"{level}\" is not a level: expected off, error, ")),
                "{error}"
            );
        }
        for text in ["/boot=info", "[boot=info"] {
            let error = parse(text).expect_err("is refused");
            assert!(error.starts_with(&format!("\"{text}\" is not a log filter: ")), "{error}");
        }
    }
}
