//! Machines and their timelines, as the API and the pages show them.

use std::collections::{BTreeSet, HashMap};

use tokio::task::JoinError;
use uuid::Uuid;

use super::Operator;
use crate::model::{Node, NodePower, Port};
use crate::store::StoreError;
use crate::timeline::{Machine, MachineId, TimelineEntry, describe};

impl Operator {
    /// Lists the machines with one of a node's ports, or last identified as the node. The most recently seen comes
    /// first.
    pub async fn list_machines_of_node(&self, node: Uuid) -> Result<Vec<Machine>, StoreError> {
        let ports: Vec<Port> = self.inventory.list_all_of(node).await?;
        Ok(self.timeline.machines(|machine| machine.node == Some(node) || has_port_of(machine, &ports)))
    }

    /// The power state of a machine's node, recorded and inferred; `None` for a machine without a node.
    pub async fn find_power(&self, machine: &Machine) -> Result<Option<NodePower>, StoreError> {
        let Some(uuid) = machine.node else { return Ok(None) };
        let node = self.inventory.get::<Node>(uuid).await?;
        Ok(node.map(|node| NodePower::new(&node.value, machine.inferred_on_at)))
    }

    /// Replaces the names of machines, as of their last boot, by the current names of their nodes, in one read.
    pub async fn update_names(&self, machines: &mut [Machine]) -> Result<(), StoreError> {
        let uuids: BTreeSet<Uuid> = machines.iter().filter_map(|machine| machine.node).collect();
        let nodes = self.inventory.get_all::<Node>(uuids).await?.into_iter();
        let names: HashMap<_, _> = nodes.map(|node| (node.uuid, node.name)).collect();
        for machine in machines {
            if let Some(node) = machine.node {
                machine.name = names.get(&node).cloned().flatten();
            }
        }
        Ok(())
    }

    /// Reads the events of machines with their descriptions, the oldest first. Fails only if the read panics.
    pub async fn read_timeline(&self, machines: Vec<MachineId>) -> Result<Vec<TimelineEntry>, JoinError> {
        let timeline = self.timeline.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut events: Vec<_> =
                machines.into_iter().flat_map(|id| timeline.events_blocking(id)).collect();
            events.sort_by_key(|event| event.at);
            describe(events)
        });
        read.await.inspect_err(|error| tracing::error!(%error, "cannot read a timeline"))
    }
}

/// Whether one of these ports is a network card of the machine.
pub(super) fn has_port_of(machine: &Machine, ports: &[Port]) -> bool {
    let is_card =
        |port: &Port| machine.id == MachineId::Mac(port.address) || machine.macs.contains(&port.address);
    ports.iter().any(is_card)
}
