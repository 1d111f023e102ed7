//! Boot previews: the boot request that a machine would send next, and its answer.
//!
//! One rule for every preview. A machine that was seen sends the facts of its last boot request again. Before its
//! first, the machine is assumed to have exactly the ports of its node.

use super::Operator;
use super::machines::has_port_of;
use crate::boot::Decision;
use crate::model::{BootRequest, Mac, Node, Port};
use crate::script;
use crate::store::StoreError;
use crate::timeline::{Machine, MachineId};

/// A machine with a known MAC address, seen or not.
#[derive(Debug)]
pub struct Requester {
    /// The machine in the timeline, if it was seen.
    pub machine: Option<Machine>,
    /// The node with one of the machine's MAC addresses.
    pub node: Option<Node>,
    /// The machine's next boot request.
    pub request: BootRequest,
}

/// The answer to a boot request at this moment.
#[derive(Debug)]
pub struct BootPreview {
    /// The decision.
    pub decision: Decision,
    /// The boot script with masked secrets; `None` if the answer cannot be a script.
    pub script: Option<String>,
}

impl Operator {
    /// Finds a machine by the MAC address of its boot card.
    pub async fn find_requester(&self, mac: Mac) -> Result<Requester, StoreError> {
        let machine = self.timeline.machine(MachineId::Mac(mac));
        let mut request = predict_request(mac, machine.as_ref(), &[]);
        let node = self.boot.find_node(&request.macs).await?;
        if let Some(node) = &node {
            let ports: Vec<Port> = self.inventory.list_all_of(node.uuid).await?;
            request = predict_request(mac, machine.as_ref(), &ports);
        }
        Ok(Requester { machine, node, request })
    }

    /// Finds the machine of a node: the most recently seen of those with one of the node's ports. If none was seen,
    /// the node's first port with PXE enabled stands for the machine. `None` for a node without ports.
    pub async fn find_machine_of_node(&self, node: &Node) -> Result<Option<Mac>, StoreError> {
        Ok(self.select_machine(&self.inventory.list_all_of(node.uuid).await?))
    }

    /// Predicts the next boot request of a node's machine. `None` for a node without ports.
    pub async fn predict_request_of_node(&self, node: &Node) -> Result<Option<BootRequest>, StoreError> {
        let ports: Vec<Port> = self.inventory.list_all_of(node.uuid).await?;
        Ok(self.select_machine(&ports).map(|mac| {
            let machine = self.timeline.machine(MachineId::Mac(mac));
            predict_request(mac, machine.as_ref(), &ports)
        }))
    }

    fn select_machine(&self, ports: &[Port]) -> Option<Mac> {
        let boot_card = |machine: &Machine| match machine.id {
            MachineId::Mac(mac) => Some(mac),
            MachineId::Address(_) => None,
        };
        let seen = self.timeline.machines(|machine| has_port_of(machine, ports));
        let boot_port = ports.iter().find(|port| port.pxe_enabled).or(ports.first());
        seen.first().and_then(boot_card).or(boot_port.map(|port| port.address))
    }

    /// Previews the answer to a boot request. Attaches no volumes.
    pub async fn preview(&self, request: &BootRequest) -> BootPreview {
        let decision = self.boot.predict(request).await;
        let script = script::preview(&decision.answer, request, self.scripts).ok();
        BootPreview { decision, script }
    }
}

/// The next boot request of the machine with boot card `mac`; `ports` are those of its node.
fn predict_request(mac: Mac, machine: Option<&Machine>, ports: &[Port]) -> BootRequest {
    let mut request = BootRequest::new(mac);
    request.platform = machine.and_then(|machine| machine.platform);
    request.host_name_bytes = machine.and_then(|machine| machine.host_name_bytes);
    match machine {
        Some(machine) if !machine.macs.is_empty() => request.with_macs(machine.macs.iter().copied()),
        _ => request.with_macs(ports.iter().map(|port| port.address)),
    }
}
