//! The reset action: the reset type for a command, with a fallback where a BMC lacks one.

use serde_json::json;

use super::bmc::Bmc;
use super::error::{BmcFault, RedfishError};
use super::quirks::{self, CallKind, Quirk};
use super::system::{ResetAction, parse_action_info};
use super::{ComputerSystem, SystemPower};

/// A command to a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerCommand {
    /// Switch it on.
    On,
    /// Switch it off at once.
    ForceOff,
    /// Ask the operating system to shut down.
    Shutdown,
    /// Ask the operating system to restart.
    Restart,
}

impl PowerCommand {
    /// The state after the command; `None` if it is the state before.
    fn end_state(self) -> Option<SystemPower> {
        match self {
            Self::On => Some(SystemPower::On),
            Self::ForceOff | Self::Shutdown => Some(SystemPower::Off),
            Self::Restart => None,
        }
    }

    /// Whether the machine boots after the command.
    pub fn starts_boot(self) -> bool {
        matches!(self, Self::On | Self::Restart)
    }

    /// The command as part of an error text.
    fn as_str(self) -> &'static str {
        match self {
            Self::On => "switch the system on",
            Self::ForceOff => "switch the system off",
            Self::Shutdown => "shut the system down",
            Self::Restart => "restart the system",
        }
    }

    /// The reset types for the command, the best first. The power button toggles, so it serves only in one state.
    fn reset_types(self, power: Option<SystemPower>) -> &'static [(&'static str, Option<Quirk>)] {
        match (self, power) {
            (Self::On, Some(SystemPower::Off)) => &[
                ("On", None),
                ("ForceOn", Some(Quirk::NoResetOn)),
                ("PushPowerButton", Some(Quirk::NoResetOn)),
            ],
            (Self::On, _) => &[("On", None), ("ForceOn", Some(Quirk::NoResetOn))],
            (Self::ForceOff, _) => &[("ForceOff", None)],
            (Self::Shutdown, Some(SystemPower::On)) => {
                &[("GracefulShutdown", None), ("PushPowerButton", Some(Quirk::NoGracefulShutdown))]
            }
            (Self::Shutdown, _) => &[("GracefulShutdown", None)],
            (Self::Restart, _) => &[("GracefulRestart", None)],
        }
    }

    /// Selects the reset type among the allowed ones; without a list, the best.
    pub(super) fn select(
        self,
        power: Option<SystemPower>,
        allowed: Option<&[String]>,
    ) -> Option<(&'static str, Option<Quirk>)> {
        let is_allowed = |name: &str| allowed.is_none_or(|allowed| allowed.iter().any(|own| own == name));
        self.reset_types(power).iter().find(|(name, _)| is_allowed(name)).copied()
    }
}

impl ComputerSystem {
    /// Whether a command is among the listed reset types; without a list it may be.
    pub fn offers(&self, command: PowerCommand) -> bool {
        let allowed = self.reset.as_ref().and_then(|reset| reset.allowed.as_deref());
        command.select(self.power, allowed).is_some()
    }
}

impl Bmc {
    /// Reads the system with its reset types, also where they are in a resource of their own.
    pub async fn read_system_for_reset(&self) -> Result<ComputerSystem, RedfishError> {
        let read = async {
            let mut system = self.find_and_read_system().await?;
            if let Some(ResetAction { allowed: allowed @ None, info: Some(info), .. }) = &mut system.reset
                && let Some(info) = self.local_path(info)
                // Without the list, the best reset type is tried.
                && let Ok((info, _)) = self.get(&info).await
            {
                *allowed = parse_action_info(&info);
            }
            Ok(system)
        };
        read.await.map_err(|fault| self.error(fault))
    }

    /// Sends a command to the system, as read by [`Bmc::read_system_for_reset`]. Returns once the BMC has accepted it.
    pub async fn reset(&self, system: &ComputerSystem, command: PowerCommand) -> Result<(), RedfishError> {
        self.try_reset(system, command).await.map_err(|fault| self.error(fault))
    }

    async fn try_reset(&self, system: &ComputerSystem, command: PowerCommand) -> Result<(), BmcFault> {
        let cannot = |cause: &str| BmcFault::Unsupported(format!("{}: {cause}", command.as_str()));
        let action = system.reset.as_ref().ok_or_else(|| cannot("it has no reset action"))?;
        let target = self.local_path(&action.target).ok_or_else(|| cannot("its reset action has no path"))?;
        let allowed = action.allowed.as_deref();
        let Some((reset_type, quirk)) = command.select(system.power, allowed) else {
            let offered = super::message::cut_text(&allowed.unwrap_or_default().join(", "));
            return Err(cannot(&format!("it offers {offered}")));
        };
        quirk.into_iter().chain(action.quirk()).for_each(|quirk| quirk.note(&self.access.address));
        let body = json!({"ResetType": reset_type});
        let result = self.request(reqwest::Method::POST, &target, Some(&body), None, CallKind::Reset).await;
        let Err(fault) = result else { return Ok(()) };
        if quirks::may_be_in_state(&fault) && command.end_state().is_some() {
            let now = self.find_and_read_system().await?;
            if now.power == command.end_state() {
                Quirk::AlreadyInState.note(&self.access.address);
                return Ok(());
            }
        }
        Err(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_type_depends_on_command_state_and_offer() {
        use PowerCommand::{ForceOff, On, Restart, Shutdown};
        use SystemPower::{Off, On as IsOn};
        for (command, power, allowed, expected) in [
            (On, Some(Off), None, Some("On")),
            (On, Some(Off), Some("On ForceOff"), Some("On")),
            (On, Some(Off), Some("ForceOn ForceOff"), Some("ForceOn")),
            (On, Some(Off), Some("ForceOff PushPowerButton"), Some("PushPowerButton")),
            // The button would switch it off.
            (On, Some(IsOn), Some("ForceOff PushPowerButton"), None),
            (On, None, Some("ForceOff PushPowerButton"), None),
            (ForceOff, Some(IsOn), Some("On PushPowerButton"), None),
            (ForceOff, None, None, Some("ForceOff")),
            (Shutdown, Some(IsOn), Some("On ForceOff PushPowerButton"), Some("PushPowerButton")),
            (Shutdown, Some(Off), Some("On ForceOff PushPowerButton"), None),
            (Restart, Some(IsOn), Some("On ForceOff ForceRestart"), None),
        ] {
            let allowed: Option<Vec<String>> =
                allowed.map(|text: &str| text.split(' ').map(str::to_owned).collect());
            let selected = command.select(power, allowed.as_deref()).map(|(name, _)| name);
            assert_eq!(selected, expected, "{command:?} {power:?} {allowed:?}");
        }
    }
}
