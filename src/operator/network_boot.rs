//! [`NetworkBootWatch`]: whether a machine that volboot switched on boots from the network, as its BMC was told.
//!
//! A BMC may confirm the boot override, and its firmware may ignore it. The proof is a request: DHCP, TFTP or HTTP, from one
//! of the node's cards. Without any within a time limit, the machine's timeline gets an event, and its verdict says so.
//!
//! The wait is on record in the node's boot window, so that a restart resumes it. Of several instances, one writes the event.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::sleep;
use uuid::Uuid;

use super::machines::has_port_of;
use crate::model::{BootWindow, Mac, Node, Port, PowerState};
use crate::store::{Inventory, StoreError, WindowChange};
use crate::telemetry::{Event, EventKind};
use crate::timeline::{MachineId, Timeline};

/// Watches machines that were switched on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct NetworkBootWatch {
    inventory: Inventory,
    timeline: Timeline,
    limit: Duration,
}

/// What the machine of a node has done since it was switched on.
struct PowerOnSightings {
    has_requested: bool,
    /// The card under which the event is filed: the last one seen, else the first of the node's ports.
    card: Option<Mac>,
}

impl NetworkBootWatch {
    /// `limit`: the time from the power-on to the first request, the power-on self-test included.
    pub fn new(inventory: Inventory, timeline: Timeline, limit: Duration) -> Self {
        Self { inventory, timeline, limit }
    }

    /// Watches the machines that were switched on before the last restart.
    pub async fn resume(&self) {
        match self.inventory.list_awaited_machines().await {
            Ok(nodes) => nodes.into_iter().for_each(|node| self.spawn(node)),
            Err(error) => tracing::error!(%error, "cannot list the machines that were switched on"),
        }
    }

    /// Watches the machine of a node, in the background.
    pub fn spawn(&self, node: Uuid) {
        let watch = self.clone();
        tokio::spawn(async move {
            if let Err(error) = watch.run(node).await {
                tracing::error!(%node, %error, "cannot tell whether a machine boots from the network");
            }
        });
    }

    async fn run(&self, node: Uuid) -> Result<(), StoreError> {
        let awaited = |window: &BootWindow| window.awaits_request;
        let Some(window) = self.inventory.read_boot_window(node).await?.filter(awaited) else {
            return Ok(());
        };
        let since = window.opened_at;
        let elapsed = Timestamp::now().duration_since(since);
        sleep(self.limit.saturating_sub(Duration::try_from(elapsed).unwrap_or_default())).await;
        let Some(record) = self.inventory.get::<Node>(node).await? else { return Ok(()) };
        let sightings = self.find_sightings(node, since).await?;
        let end_wait = |present: Option<&BootWindow>| match present {
            Some(present) if present.opened_at == since && present.awaits_request => {
                WindowChange::Write(BootWindow { awaits_request: false, ..present.clone() }, true)
            }
            _ => WindowChange::Keep(false),
        };
        let is_first = self.inventory.change_boot_window(node, end_wait).await?;
        // A machine that is off again has another fault, which the power state shows. An older record does not count: the
        // power change may end later than the wait.
        let node_record = &record.value;
        let is_off_again = node_record.power_state == Some(PowerState::Off)
            && node_record.power_recorded_at.is_some_and(|recorded| recorded >= since);
        if is_first && !sightings.has_requested && !is_off_again {
            self.record(node, sightings.card, since);
        }
        Ok(())
    }

    async fn find_sightings(&self, node: Uuid, since: Timestamp) -> Result<PowerOnSightings, StoreError> {
        let ports: Vec<Port> = self.inventory.list_all_of(node).await?;
        let machines =
            self.timeline.machines(|machine| machine.node == Some(node) || has_port_of(machine, &ports));
        let last_seen = machines.iter().find_map(|machine| match machine.id {
            MachineId::Mac(mac) => Some(mac),
            MachineId::Address(_) => None,
        });
        let first_port = ports.iter().find(|port| port.pxe_enabled).map(|port| port.address);
        let timeline = self.timeline.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut recent = machines.into_iter().filter(|machine| machine.last_seen >= since);
            recent.any(|machine| {
                let events = timeline.events_blocking(machine.id);
                events.iter().any(|event| event.at >= since && is_from_machine(event))
            })
        });
        // A panic in the read is in the log already. The machine is not accused without a look.
        Ok(PowerOnSightings { has_requested: read.await.unwrap_or(true), card: last_seen.or(first_port) })
    }

    fn record(&self, node: Uuid, card: Option<Mac>, since: Timestamp) {
        let now = Timestamp::now();
        let seconds = u32::try_from(now.duration_since(since).as_secs()).unwrap_or_default();
        tracing::warn!(
            %node, seconds,
            "the firmware did not boot from the network: the boot override was ignored"
        );
        self.timeline.record(Event::new(now, card, None, EventKind::NoNetworkBoot { node, seconds }));
    }
}

/// Whether the machine has caused the event, by a request or a report.
fn is_from_machine(event: &Event) -> bool {
    match event.kind {
        EventKind::Dhcp(_)
        | EventKind::TftpTransfer(_)
        | EventKind::HttpFetch { .. }
        | EventKind::SessionStarted
        | EventKind::BootRequest(_)
        | EventKind::BootReport { .. }
        | EventKind::LoopDelay { .. } => true,
        EventKind::NoNetworkBoot { .. } => false,
    }
}
