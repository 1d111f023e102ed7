//! [`BootStep`]: a step of a boot script, as machines report it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A step of a boot script, as the query `step=` of a boot report names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
pub enum BootStep {
    /// `hook-0`, `hook-1`, …: iPXE connects to the volume with this index.
    Hook(u32),
    /// `hooked`: all volumes are connected.
    Hooked,
    /// `boot`: iPXE starts the boot loader on the volume.
    Boot,
    /// `up`: the operating system has started.
    Up,
    /// Any other word.
    Other(String),
}

impl BootStep {
    /// The step of a report without a name.
    pub fn unnamed() -> Self {
        Self::Other("unnamed step".to_owned())
    }

    /// The label for metrics: a closed set.
    pub const fn as_label(&self) -> &'static str {
        match self {
            Self::Hook(_) => "hook",
            Self::Hooked => "hooked",
            Self::Boot => "boot",
            Self::Up => "up",
            Self::Other(_) => "other",
        }
    }

    /// Whether a report of this step, with iPXE's error number `rc`, is a success. Machines report the other steps
    /// after a failure only.
    pub const fn is_success(&self, rc: Option<&str>) -> bool {
        match self {
            Self::Hooked | Self::Up => rc.is_none(),
            Self::Hook(_) | Self::Boot | Self::Other(_) => false,
        }
    }
}

impl From<String> for BootStep {
    fn from(name: String) -> Self {
        match name.as_str() {
            "hooked" => return Self::Hooked,
            "boot" => return Self::Boot,
            "up" => return Self::Up,
            _ => {}
        }
        let index = name.strip_prefix("hook-").and_then(|index| index.parse().ok());
        let hook = index.map(Self::Hook).filter(|hook| hook.to_string() == name);
        hook.unwrap_or(Self::Other(name))
    }
}

impl From<BootStep> for String {
    fn from(step: BootStep) -> Self {
        step.to_string()
    }
}

impl fmt::Display for BootStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook(index) => write!(f, "hook-{index}"),
            Self::Hooked | Self::Boot | Self::Up => f.write_str(self.as_label()),
            Self::Other(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_a_success_by_its_step_and_without_an_error_number() {
        for (step, success) in [(BootStep::Hooked, true), (BootStep::Up, true), (BootStep::Hook(0), false)] {
            assert_eq!((step.is_success(None), step.is_success(Some("2c0d6039"))), (success, false));
        }
    }

    #[test]
    fn every_name_is_kept() {
        let other = |name: &str| BootStep::Other(name.into());
        for (name, step, label) in [
            ("hook-0", BootStep::Hook(0), "hook"),
            ("hook-12", BootStep::Hook(12), "hook"),
            ("hooked", BootStep::Hooked, "hooked"),
            ("boot", BootStep::Boot, "boot"),
            ("up", BootStep::Up, "up"),
            ("hook-", other("hook-"), "other"),
            ("hook-007", other("hook-007"), "other"),
            ("hook-99999999999", other("hook-99999999999"), "other"),
            ("frobnicate", other("frobnicate"), "other"),
        ] {
            assert_eq!((BootStep::from(name.to_owned()), step.as_label()), (step.clone(), label));
            assert_eq!(serde_json::to_value(&step).expect("serializes"), name);
        }
    }
}
