//! Maintenance: set with a reason, and clear.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use serde::Deserialize;

use super::find_node;
use super::group::{ActionGroup, action_path};
use super::page::{ActionPage, FormField};
use crate::model::Node;
use crate::operator::MaintenanceChange;
use crate::web::SharedState;
use crate::web::format::Severity;
use crate::web::page::ErrorPage;

const SET: &str = "maintenance";
const CLEAR: &str = "maintenance/clear";

/// The form that sets maintenance.
#[derive(Debug, Default, Deserialize)]
struct MaintenanceForm {
    #[serde(default)]
    reason: String,
}

pub(super) fn router() -> Router<SharedState> {
    Router::new()
        .route("/ui/nodes/{node}/maintenance", get(ask).post(set))
        .route("/ui/nodes/{node}/maintenance/clear", post(clear))
}

/// Whether maintenance is set, and why.
pub(super) fn group(node: &Node) -> ActionGroup {
    let group = ActionGroup::new("Maintenance");
    if !node.maintenance {
        return group.state(Severity::Neutral, "off").link("Set", action_path(node, SET));
    }
    let reason = node.maintenance_reason.as_deref().filter(|reason| !reason.is_empty());
    let group = group.state(Severity::Warning, "set").note(reason.unwrap_or("No reason given."));
    group.button("Clear", action_path(node, CLEAR))
}

fn page(node: &Node, reason: &str) -> ActionPage {
    let heading = format!("Set maintenance: {}", node.label());
    ActionPage::new(node, heading, action_path(node, SET), "Set maintenance")
        .text("While maintenance is set, boot requests of the machine wait, and the node cannot be deployed.")
        .field(FormField {
            name: "reason",
            label: "Reason",
            value: reason.to_owned(),
            hint: "Optional. The machine's console and page show it.",
            ..FormField::default()
        })
}

/// `GET /ui/nodes/{node}/maintenance`
async fn ask(State(operator): State<SharedState>, Path(ident): Path<String>) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    Ok(page(&node, node.maintenance_reason.as_deref().unwrap_or_default()).ask())
}

/// `POST /ui/nodes/{node}/maintenance`
async fn set(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
    axum::Form(form): axum::Form<MaintenanceForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let reason = Some(form.reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    let change = MaintenanceChange::Set(reason);
    let result = operator.change_maintenance(node.uuid, change, Timestamp::now()).await;
    Ok(page(&node, &form.reason).finish(&node, result))
}

/// `POST /ui/nodes/{node}/maintenance/clear`
async fn clear(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let change = MaintenanceChange::Clear;
    let result = operator.change_maintenance(node.uuid, change, Timestamp::now()).await;
    let heading = format!("Clear maintenance: {}", node.label());
    let page = ActionPage::new(&node, heading, action_path(&node, CLEAR), "Clear maintenance");
    Ok(page.finish(&node, result))
}
