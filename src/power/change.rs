//! Power changes: sends each command to the BMC, and waits for its effect.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::decide::{PowerAction, PowerStep};
use super::observation::PowerCall;
use super::{BmcClaim, Power, PowerError};
use crate::model::{BootWindow, Node, PowerState};
use crate::redfish::{Bmc, ComputerSystem, PowerCommand};

impl Power {
    /// Changes the power state of a node's machine. Returns once the BMC shows the end state. `timeout` replaces the
    /// time limit for the effect of each command. The caller holds the claim.
    pub async fn change(
        &self,
        node: &Node,
        claim: &BmcClaim<'_>,
        action: PowerAction,
        timeout: Option<Duration>,
    ) -> Result<PowerState, PowerError> {
        let started_at = std::time::Instant::now();
        let result = self.run_change(node, claim, action, timeout).await;
        self.count_call(PowerCall::Switch, started_at, &result);
        result
    }

    async fn run_change(
        &self,
        node: &Node,
        claim: &BmcClaim<'_>,
        action: PowerAction,
        timeout: Option<Duration>,
    ) -> Result<PowerState, PowerError> {
        let bmc = self.station(node).await?;
        // Before the first command: the boot that it ends is no failed one.
        let noted = self.inventory.fallbacks().note_reset(node).await;
        noted.map_err(|error| PowerError::Store(error.to_string()))?;
        let system = bmc.read_system_for_reset().await?;
        let state = system.power.map(PowerState::from);
        let limit = timeout.unwrap_or(if action.is_soft() { self.limits.soft } else { self.limits.change });
        let mut last = None;
        for step in action.plan(state, system.offers(PowerCommand::Restart)) {
            match step {
                PowerStep::Command(command) => {
                    claim.guard(self.send_command(node, &bmc, *command)).await?;
                    last = Some(*command);
                }
                PowerStep::Await(state) => self.wait_for(&bmc, *state, last, limit).await?,
            }
        }
        if action.end_state() == PowerState::Off {
            self.close_boot_window(node).await;
        }
        tracing::info!(node = %node.uuid, action = action.as_str(), "power state changed");
        Ok(action.end_state())
    }

    async fn send_command(&self, node: &Node, bmc: &Bmc, command: PowerCommand) -> Result<(), PowerError> {
        if command == PowerCommand::On {
            self.restore_boot_device(node, bmc).await;
        }
        // The reset type depends on the state, so that it is read again.
        let system = bmc.read_system_for_reset().await?;
        if command.starts_boot() {
            self.switch_on_times.note(node.uuid, Timestamp::now());
            return self.begin_boot(node, bmc, &system, command).await;
        }
        Ok(bmc.reset(&system, command).await?)
    }

    /// Opens the node's boot window, and sends the command. The record is written before it: the machine may be quick. Without
    /// the boot, the window would be there for whoever asks first, so that a refusal of the BMC restores the last record.
    async fn begin_boot(
        &self,
        node: &Node,
        bmc: &Bmc,
        system: &ComputerSystem,
        command: PowerCommand,
    ) -> Result<(), PowerError> {
        let window = BootWindow::open(Timestamp::now(), system.boot.is_network());
        let opened = self.inventory.open_boot_window(node.uuid, &window).await;
        let last =
            opened.map_err(|error| PowerError::Store(format!("cannot open the boot window: {error}")))?;
        let Err(fault) = bmc.reset(system, command).await else { return Ok(()) };
        if fault.is_without_effect() {
            let restored = self.inventory.restore_boot_window(node.uuid, &window, last.as_ref()).await;
            if let Err(error) = restored {
                tracing::warn!(node = %node.uuid, %error, "cannot close the boot window of a refused power-on");
            }
        }
        Err(fault.into())
    }

    /// Ends the node's boot window: no request of a machine that is off is genuine. The window ends by itself, too.
    async fn close_boot_window(&self, node: &Node) {
        if let Err(error) = self.inventory.delete_boot_window(node.uuid).await {
            tracing::warn!(node = %node.uuid, %error, "cannot close the boot window of a machine that was switched off");
        }
    }

    /// Waits until the BMC shows a state. A failed read does not end the wait: BMCs are busy meanwhile.
    async fn wait_for(
        &self,
        bmc: &Bmc,
        wanted: PowerState,
        command: Option<PowerCommand>,
        limit: Duration,
    ) -> Result<(), PowerError> {
        let deadline = Instant::now() + limit;
        let mut was_reached = false;
        loop {
            let result = bmc.read_system().await.map(|system| system.power.map(PowerState::from));
            match &result {
                Ok(Some(state)) if *state == wanted => {
                    if wanted == PowerState::Off || was_reached {
                        return Ok(());
                    }
                    was_reached = true;
                    sleep(self.limits.settle).await;
                    continue;
                }
                Ok(Some(PowerState::Off)) if was_reached => {
                    return Err(PowerError::WentOff { bmc: bmc.access().address.clone() });
                }
                Ok(_) | Err(_) => {}
            }
            if Instant::now() >= deadline {
                let state = result?;
                let command = command.map_or("change its power state", name_command);
                return Err(PowerError::NoEffect {
                    bmc: bmc.access().address.clone(),
                    command,
                    state,
                    limit,
                });
            }
            sleep(self.limits.poll).await;
        }
    }
}

/// The command in an error text.
fn name_command(command: PowerCommand) -> &'static str {
    match command {
        PowerCommand::On => "switch on",
        PowerCommand::ForceOff => "switch off",
        PowerCommand::Shutdown => "shut down",
        PowerCommand::Restart => "restart",
    }
}
