//! `/ui/nodes/{node}`: redirects from a node's name or UUID to the page of its machine.

use axum::extract::{Path, State};
use axum::response::Redirect;

use super::page::ErrorPage;
use super::{SharedState, machines};
use crate::timeline::MachineId;

/// `GET /ui/nodes/{node}`
pub(super) async fn redirect_to_machine(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
) -> Result<Redirect, ErrorPage> {
    let Some(node) = operator.find_node(&ident).await? else {
        return Err(ErrorPage::not_found(format!("There is no node \"{ident}\".")));
    };
    let Some(mac) = operator.find_machine_of_node(&node).await? else {
        let text = format!("Node {} has no port, so no machine can match it.", node.label());
        return Err(ErrorPage::not_found(text));
    };
    Ok(Redirect::to(&machines::machine_link(MachineId::Mac(mac))))
}
