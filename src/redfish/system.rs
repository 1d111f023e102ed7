//! [`ComputerSystem`]: the properties of a system that volboot reads (DSP2046, ComputerSystem).

use serde_json::Value;

use super::boot_override::{BootMode, BootSource};
use super::quirks::Quirk;

/// The most values of a list of allowed values that are read.
const MAX_VALUES: usize = 64;

/// The power state of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemPower {
    /// `On`, `PoweringOn` and `Paused`.
    On,
    /// `Off` and `PoweringOff`.
    Off,
}

/// What a BMC tells about its system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputerSystem {
    /// The system's path.
    pub path: String,
    /// The power state; `None` if the BMC does not know it at present.
    pub power: Option<SystemPower>,
    /// Manufacturer and model, as far as known.
    pub model: Option<String>,
    /// The boot override.
    pub boot: BootOverride,
    pub(super) reset: Option<ResetAction>,
    pub(super) etag: Option<String>,
    /// The path of the settings resource.
    pub(super) settings: Option<String>,
}

/// The boot override of a system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootOverride {
    /// The source; `None`: none or an unknown one.
    pub source: Option<BootSource>,
    /// Whether it applies to all boots; `None`: to no boot.
    pub persistent: Option<bool>,
    /// The mode, if the BMC has this property.
    pub mode: Option<BootMode>,
    /// The allowed sources; `None`: the BMC lists none.
    pub(super) allowed: Option<Vec<String>>,
}

/// The reset action of a system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResetAction {
    pub(super) target: String,
    /// The reset types; `None`: the BMC lists none here.
    pub(super) allowed: Option<Vec<String>>,
    /// The path of the resource that lists them.
    pub(super) info: Option<String>,
}

impl ComputerSystem {
    /// Parses the resource; `None` if it is not a system.
    pub(super) fn parse(path: String, value: &Value, etag: Option<String>) -> Option<Self> {
        // Each system has the one or the other.
        if !value["Boot"].is_object() && !value["Actions"].is_object() && value["PowerState"].is_null() {
            return None;
        }
        let names = [&value["Manufacturer"], &value["Model"]].map(|name| name.as_str().unwrap_or_default());
        let model = super::message::cut_text(&names.join(" "));
        Some(Self {
            path,
            power: parse_power(&value["PowerState"]),
            model: Some(model).filter(|model| !model.is_empty()),
            boot: BootOverride::parse(&value["Boot"]),
            reset: ResetAction::parse(&value["Actions"]),
            etag,
            settings: value["@Redfish.Settings"]["SettingsObject"]["@odata.id"].as_str().map(str::to_owned),
        })
    }
}

fn parse_power(value: &Value) -> Option<SystemPower> {
    match value.as_str()? {
        "On" | "PoweringOn" | "Paused" => Some(SystemPower::On),
        "Off" | "PoweringOff" => Some(SystemPower::Off),
        _ => None,
    }
}

impl BootOverride {
    pub(super) fn parse(boot: &Value) -> Self {
        Self {
            source: boot["BootSourceOverrideTarget"].as_str().and_then(BootSource::parse),
            persistent: match boot["BootSourceOverrideEnabled"].as_str() {
                Some("Continuous") => Some(true),
                Some("Once") => Some(false),
                _ => None,
            },
            mode: boot["BootSourceOverrideMode"].as_str().and_then(BootMode::parse),
            allowed: parse_list(&boot["BootSourceOverrideTarget@Redfish.AllowableValues"]),
        }
    }
}

impl ResetAction {
    fn parse(actions: &Value) -> Option<Self> {
        let names = ["#ComputerSystem.Reset", "#System.Reset"];
        let action = names.iter().map(|name| &actions[name]).find(|action| action.is_object())?;
        Some(Self {
            target: action["target"].as_str().or(action["Target"].as_str())?.to_owned(),
            allowed: parse_list(&action["ResetType@Redfish.AllowableValues"]),
            info: action["@Redfish.ActionInfo"].as_str().map(str::to_owned),
        })
    }

    /// The quirk of the action's form.
    pub(super) fn quirk(&self) -> Option<Quirk> {
        if self.target.ends_with("/System.Reset") {
            return Some(Quirk::OldActionName);
        }
        (self.allowed.is_none() && self.info.is_some()).then_some(Quirk::ActionInfo)
    }
}

/// Reads the reset types of an ActionInfo resource.
pub(super) fn parse_action_info(value: &Value) -> Option<Vec<String>> {
    let parameters = value["Parameters"].as_array()?;
    parse_list(&parameters.iter().find(|parameter| parameter["Name"] == "ResetType")?["AllowableValues"])
}

fn parse_list(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array()?.iter().take(MAX_VALUES).filter_map(Value::as_str);
    let items: Vec<_> = items.map(str::to_owned).collect();
    // An empty list tells nothing: each system has one value at least.
    Some(items).filter(|items| !items.is_empty())
}
