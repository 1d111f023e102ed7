//! The steps of a power change, as Ironic's conductor and its driver `redfish` take them. Pure: each row is a test.

use crate::model::PowerState;
use crate::redfish::PowerCommand;

/// A power change, named as Ironic's targets of `states/power`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// `power on`
    On,
    /// `power off`
    Off,
    /// `rebooting`: off, then on.
    Reboot,
    /// `soft power off`
    SoftOff,
    /// `soft rebooting`
    SoftReboot,
}

/// A step of a power change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PowerStep {
    /// Sends a command.
    Command(PowerCommand),
    /// Waits for a power state.
    Await(PowerState),
}

impl PowerAction {
    /// Parses Ironic's name.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "power on" => Self::On,
            "power off" => Self::Off,
            "rebooting" => Self::Reboot,
            "soft power off" => Self::SoftOff,
            "soft rebooting" => Self::SoftReboot,
            _ => return None,
        })
    }

    /// Ironic's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "power on",
            Self::Off => "power off",
            Self::Reboot => "rebooting",
            Self::SoftOff => "soft power off",
            Self::SoftReboot => "soft rebooting",
        }
    }

    /// The power state at the end.
    pub const fn end_state(self) -> PowerState {
        match self {
            Self::On | Self::Reboot | Self::SoftReboot => PowerState::On,
            Self::Off | Self::SoftOff => PowerState::Off,
        }
    }

    /// Whether the operating system takes part, which takes longer.
    pub const fn is_soft(self) -> bool {
        matches!(self, Self::SoftOff | Self::SoftReboot)
    }

    /// The steps from the present state. `can_restart`: whether the BMC has a graceful restart.
    pub(super) fn plan(self, state: Option<PowerState>, can_restart: bool) -> &'static [PowerStep] {
        use PowerCommand::{ForceOff, On, Restart, Shutdown};
        use PowerStep::{Await, Command};
        const ON: &[PowerStep] = &[Command(On), Await(PowerState::On)];
        const OFF: &[PowerStep] = &[Command(ForceOff), Await(PowerState::Off)];
        const CYCLE: &[PowerStep] =
            &[Command(ForceOff), Await(PowerState::Off), Command(On), Await(PowerState::On)];
        const SOFT_OFF: &[PowerStep] = &[Command(Shutdown), Await(PowerState::Off)];
        const SOFT_CYCLE: &[PowerStep] =
            &[Command(Shutdown), Await(PowerState::Off), Command(On), Await(PowerState::On)];
        const RESTART: &[PowerStep] = &[Command(Restart), Await(PowerState::On)];
        match (self, state) {
            // A change to the present state does nothing, as in Ironic.
            (Self::On, Some(PowerState::On)) | (Self::Off | Self::SoftOff, Some(PowerState::Off)) => &[],
            (Self::On, _) | (Self::Reboot | Self::SoftReboot, Some(PowerState::Off)) => ON,
            (Self::Off, _) => OFF,
            (Self::Reboot, _) => CYCLE,
            (Self::SoftOff, _) => SOFT_OFF,
            (Self::SoftReboot, _) if can_restart => RESTART,
            (Self::SoftReboot, _) => SOFT_CYCLE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn describe(steps: &[PowerStep]) -> String {
        let words = steps.iter().map(|step| match step {
            PowerStep::Command(command) => format!("{command:?}"),
            PowerStep::Await(state) => format!("={}", state.as_str().trim_start_matches("power ")),
        });
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_action_has_its_steps_from_each_state() {
        let (on, off) = (Some(PowerState::On), Some(PowerState::Off));
        for (action, from_on, from_off, from_unknown) in [
            (PowerAction::On, "", "On =on", "On =on"),
            (PowerAction::Off, "ForceOff =off", "", "ForceOff =off"),
            (PowerAction::Reboot, "ForceOff =off On =on", "On =on", "ForceOff =off On =on"),
            (PowerAction::SoftOff, "Shutdown =off", "", "Shutdown =off"),
            (PowerAction::SoftReboot, "Restart =on", "On =on", "Restart =on"),
        ] {
            let steps = [on, off, None].map(|state| describe(action.plan(state, true)));
            assert_eq!(steps, [from_on, from_off, from_unknown], "{action:?}");
            assert_eq!(PowerAction::parse(action.as_str()), Some(action));
        }
        assert_eq!(describe(PowerAction::SoftReboot.plan(on, false)), "Shutdown =off On =on");
        assert_eq!(PowerAction::parse("on"), None);
    }

    #[test]
    fn each_action_ends_in_the_state_that_its_last_step_awaits() {
        for action in [
            PowerAction::On,
            PowerAction::Off,
            PowerAction::Reboot,
            PowerAction::SoftOff,
            PowerAction::SoftReboot,
        ] {
            let last = action.plan(None, false).last();
            assert_eq!(last, Some(&PowerStep::Await(action.end_state())), "{action:?}");
        }
    }
}
