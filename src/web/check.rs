//! `/ui/machines/{machine}/check`: checks the volumes of a machine's node.

use axum::extract::{Path, State};
use axum::response::Redirect;

use super::page::ErrorPage;
use super::{SharedState, machine, machines};
use crate::timeline::MachineId;

/// `POST /ui/machines/{machine}/check`
pub(super) async fn submit(
    State(operator): State<SharedState>,
    Path(id): Path<String>,
) -> Result<Redirect, ErrorPage> {
    let id = machine::parse_machine_id(&id)?;
    let node = match id {
        MachineId::Mac(mac) => operator.find_requester(mac).await?.node,
        MachineId::Address(_) => None,
    };
    let Some(node) = node else {
        return Err(ErrorPage::not_found(
            "No node has a port with this MAC address, so there is no volume to check.",
        ));
    };
    operator.check_volumes(&node).await?.ok_or_else(ErrorPage::internal)?;
    Ok(Redirect::to(&format!("{}#check-heading", machines::machine_link(id))))
}
