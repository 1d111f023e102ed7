//! Deletes a node, after a confirmation.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;

use super::find_node;
use super::group::{ActionGroup, action_path};
use super::page::ActionPage;
use crate::model::Node;
use crate::operator::{check_deletable, check_unreserved};
use crate::web::SharedState;
use crate::web::format::to_sentence;
use crate::web::page::ErrorPage;

const DELETE: &str = "delete";

pub(super) fn router() -> Router<SharedState> {
    Router::new().route("/ui/nodes/{node}/delete", get(ask).post(submit))
}

pub(super) fn group(node: &Node) -> ActionGroup {
    let group = ActionGroup::new("Node");
    if check_unreserved(node).is_err() { group } else { group.link("Delete", action_path(node, DELETE)) }
}

fn page(node: &Node) -> ActionPage {
    let heading = format!("Delete node {}", node.label());
    let page = ActionPage::new(node, heading, action_path(node, DELETE), "Delete the node").destructive();
    let page = page.text(
        "The node is deleted with its ports, connectors and volume targets, and its Cinder attachments are ended. The \
         volumes themselves stay, and so does the timeline of the machine.",
    );
    match check_deletable(node) {
        Ok(()) => page,
        Err(refusal) => page.text(to_sentence(&refusal)),
    }
}

/// `GET /ui/nodes/{node}/delete`
async fn ask(State(operator): State<SharedState>, Path(ident): Path<String>) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    Ok(page(&node).ask())
}

/// `POST /ui/nodes/{node}/delete`
async fn submit(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    Ok(match operator.delete_node(node.uuid).await {
        Ok(()) => Redirect::to("/ui/").into_response(),
        Err(refusal) => page(&node).refuse(refusal),
    })
}
