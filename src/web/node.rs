//! `/ui/nodes/{node}`: leads from a node, by its name or UUID, to the machine that is recognised as it.

use axum::extract::{Path, State};
use axum::response::Redirect;

use super::draw::Trouble;
use super::{Shared, machines};
use crate::model::{Node, Port};
use crate::store::Unique;
use crate::timeline::Key;

/// `GET /ui/nodes/{node}`
pub(super) async fn show(
    State(state): State<Shared>,
    Path(ident): Path<String>,
) -> Result<Redirect, Trouble> {
    let found = match ident.parse() {
        Ok(uuid) => state.inventory.get::<Node>(uuid).await?,
        Err(_) => state.inventory.find::<Node>(&Unique::NodeName(ident.clone())).await?,
    };
    let Some(node) = found else {
        return Err(Trouble::not_found(format!("There is no node \"{ident}\".")));
    };
    let ports: Vec<Port> = state.inventory.all_of(node.value.uuid).await?;
    let keys: Vec<_> = ports.iter().map(|port| Key::Mac(port.address)).collect();
    // The card through which it was heard of last; else the one through which it may boot.
    let heard =
        keys.iter().filter_map(|key| state.timeline.machine(*key)).max_by_key(|machine| machine.last_seen);
    let may = ports.iter().find(|port| port.pxe_enabled).or(ports.first());
    let Some(key) = heard.map(|machine| machine.id).or(may.map(|port| Key::Mac(port.address))) else {
        let text = format!("Node {} has no port, so no machine is recognised as it.", node.value.label());
        return Err(Trouble::not_found(text));
    };
    Ok(Redirect::to(&machines::link(key)))
}
