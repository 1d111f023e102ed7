//! `/ui/nodes/{node}`: redirects from a node's name or UUID to the page of its machine.

use axum::extract::{Path, State};
use axum::response::Redirect;

use super::page::ErrorPage;
use super::{SharedState, machines};
use crate::model::{Node, Port};
use crate::store::UniqueKey;
use crate::timeline::MachineId;

/// `GET /ui/nodes/{node}`
pub(super) async fn redirect_to_machine(
    State(state): State<SharedState>,
    Path(ident): Path<String>,
) -> Result<Redirect, ErrorPage> {
    let node = match ident.parse() {
        Ok(uuid) => state.inventory.get::<Node>(uuid).await?,
        Err(_) => state.inventory.find::<Node>(&UniqueKey::NodeName(ident.clone())).await?,
    };
    let Some(node) = node else {
        return Err(ErrorPage::not_found(format!("There is no node \"{ident}\".")));
    };
    let ports: Vec<Port> = state.inventory.list_all_of(node.value.uuid).await?;
    // The most recently seen port of the node; without any, the first port with PXE enabled.
    let last_seen = ports
        .iter()
        .filter_map(|port| state.timeline.machine(MachineId::Mac(port.address)))
        .max_by_key(|machine| machine.last_seen);
    let boot_port = ports.iter().find(|port| port.pxe_enabled).or(ports.first());
    let machine_id =
        last_seen.map(|machine| machine.id).or(boot_port.map(|port| MachineId::Mac(port.address)));
    let Some(machine_id) = machine_id else {
        let text = format!("Node {} has no port, so no machine can match it.", node.value.label());
        return Err(ErrorPage::not_found(text));
    };
    Ok(Redirect::to(&machines::machine_link(machine_id)))
}
