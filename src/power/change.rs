//! Power changes: sends each command to the BMC, and waits for its effect.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::decide::{PowerAction, PowerStep};
use super::{Power, PowerError};
use crate::model::{Node, PowerState};
use crate::redfish::{Bmc, PowerCommand};
use crate::store::Claim;

impl Power {
    /// Changes the power state of a node's machine. Returns once the BMC shows the end state. `timeout` replaces the
    /// time limit for the effect of each command. The caller holds the claim.
    pub async fn change(
        &self,
        node: &Node,
        _claim: &Claim,
        action: PowerAction,
        timeout: Option<Duration>,
    ) -> Result<PowerState, PowerError> {
        let bmc = self.station(node).await?;
        let system = bmc.read_system_for_reset().await?;
        let state = system.power.map(PowerState::from);
        let limit = timeout.unwrap_or(if action.is_soft() { self.limits.soft } else { self.limits.change });
        let mut last = None;
        for step in action.plan(state, system.offers(PowerCommand::Restart)) {
            match step {
                PowerStep::Command(command) => {
                    if *command == PowerCommand::On {
                        self.restore_boot_device(node, &bmc).await;
                    }
                    // The reset type depends on the state, so that it is read again.
                    let system = bmc.read_system_for_reset().await?;
                    bmc.reset(&system, *command).await?;
                    last = Some(*command);
                }
                PowerStep::Await(state) => self.wait_for(&bmc, *state, last, limit).await?,
            }
        }
        tracing::info!(node = %node.uuid, action = action.as_str(), "power state changed");
        Ok(action.end_state())
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
