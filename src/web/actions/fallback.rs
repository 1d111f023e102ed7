//! The fallback: set and remove it, promote it, and return to the node's own volume.

use axum::Router;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::{get, post};
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::basis::{Basis, BasisForm};
use super::find_node;
use super::group::{ActionGroup, action_path};
use super::page::{ActionPage, FieldKind, FormField};
use crate::model::Node;
use crate::operator::{FallbackStatus, FallbackValues};
use crate::web::SharedState;
use crate::web::format::{self, Severity};
use crate::web::page::ErrorPage;

const SET: &str = "fallback";
const REMOVE: &str = "fallback/remove";
const PROMOTE: &str = "fallback/promote";
const RETRY: &str = "fallback/retry";

/// The form. Browsers omit empty fields, or send them as empty text.
#[derive(Default, Deserialize)]
struct FallbackForm {
    #[serde(default)]
    source: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    secret: SecretString,
    /// `on`, if it is checked.
    #[serde(default)]
    with_data: String,
    #[serde(default)]
    shared: String,
}

pub(super) fn router() -> Router<SharedState> {
    Router::new()
        .route("/ui/nodes/{node}/fallback", get(ask).post(set))
        .route("/ui/nodes/{node}/fallback/remove", get(ask_to_remove).post(remove))
        .route("/ui/nodes/{node}/fallback/promote", get(ask_to_promote).post(promote))
        .route("/ui/nodes/{node}/fallback/retry", post(retry))
}

/// The fallback of a node, and its state.
pub(super) fn group(node: &Node, status: &FallbackStatus, now: Timestamp) -> ActionGroup {
    let group = ActionGroup::new("Fallback");
    let Some(fallback) = &status.fallback else {
        let group = group.state(Severity::Neutral, "none").link("Set", action_path(node, SET));
        return match &status.obstacle {
            Some(obstacle) => group.note(format!("{obstacle}.")).link("Remove", action_path(node, REMOVE)),
            None => group,
        };
    };
    let mut group = match &status.in_force {
        Some(in_force) => group.state(Severity::Warning, "in force").note(format!(
            "Volume {} since {}: the last {} boots of volume {} did not report up.",
            fallback.source.name(),
            format::time_ago(in_force.since, now),
            in_force.failed_boots,
            in_force.failed_volume
        )),
        None => group.state(Severity::Neutral, "ready").note(format!(
            "Volume {}, after {} failed boots in a row; now {}.",
            fallback.source.name(),
            status.policy.after,
            status.failed_boots
        )),
    };
    if let Some(obstacle) = &status.obstacle {
        group = group.note(format!("It cannot come into force: {obstacle}."));
    }
    if status.in_force.is_some() {
        group = group.button_for("Retry the own volume", action_path(node, RETRY), basis(status));
    }
    group
        .link("Promote", action_path(node, PROMOTE))
        .link("Set", action_path(node, SET))
        .link("Remove", action_path(node, REMOVE))
}

/// What the actions on a fallback change: the fallback, the boot volume, and which of them the machine boots from.
fn basis(status: &FallbackStatus) -> Basis {
    let fallback = status.fallback.as_ref().map(|fallback| Value::Object(fallback.to_fields()).to_string());
    let in_force = status.in_force.as_ref().map(|in_force| in_force.since.to_string());
    let texts = [fallback.as_deref(), status.own_volume.as_deref(), in_force.as_deref()];
    Basis::of(&texts.map(Option::unwrap_or_default))
}

fn page(node: &Node, form: &FallbackForm) -> ActionPage {
    let heading = format!("Set the fallback: {}", node.label());
    ActionPage::new(node, heading, action_path(node, SET), "Set the fallback")
        .text(
            "After several boots in a row that did not report up, the machine boots from this volume, until it is told to \
             return to its own.",
        )
        .field(FormField {
            name: "source",
            label: "Volume",
            value: form.source.clone(),
            hint: "The UUID of a Cinder volume, or a target: iscsi:SERVER::PORT:LUN:NAME",
            is_required: true,
            ..FormField::default()
        })
        .field(FormField::chap_user(&form.user))
        .field(FormField::chap_secret())
        .field(FormField {
            name: "with_data",
            label: "With the node's data volumes as further drives",
            kind: FieldKind::Checkbox,
            ..FormField::default()
        })
        .field(FormField::shared())
}

impl FallbackForm {
    /// The values, by the form of the source.
    fn values(&self) -> FallbackValues<'_> {
        let source = self.source.trim();
        let (volume, targets) =
            if source.starts_with("iscsi:") { ("", vec![source]) } else { (source, Vec::new()) };
        FallbackValues {
            volume,
            targets,
            chap_user: self.user.trim(),
            chap_secret: self.secret.clone(),
            loader: "",
            with_data: self.with_data == "on",
            shared: self.shared == "on",
        }
    }
}

/// `GET /ui/nodes/{node}/fallback`
async fn ask(State(operator): State<SharedState>, Path(ident): Path<String>) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    Ok(page(&node, &FallbackForm::default()).ask())
}

/// `POST /ui/nodes/{node}/fallback`
async fn set(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
    axum::Form(form): axum::Form<FallbackForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let result = operator.set_fallback(&node, &form.values(), Timestamp::now()).await;
    Ok(page(&node, &form).finish(&node, result))
}

fn removal_page(node: &Node, status: &FallbackStatus) -> ActionPage {
    let heading = format!("Remove the fallback: {}", node.label());
    ActionPage::new(node, heading, action_path(node, REMOVE), "Remove the fallback").destructive().basis(basis(status)).text(
        "The node loses its fallback, and the attachment of the volume is ended. The volume itself stays. The machine must not \
         run from it.",
    )
}

/// `GET /ui/nodes/{node}/fallback/remove`
async fn ask_to_remove(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let status = operator.fallback_status(&node).await?;
    Ok(removal_page(&node, &status).ask())
}

/// `POST /ui/nodes/{node}/fallback/remove`
async fn remove(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
    axum::Form(form): axum::Form<BasisForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let status = operator.fallback_status(&node).await?;
    let page = removal_page(&node, &status);
    if !basis(&status).is_of(&form) {
        return Ok(page.reject_outdated());
    }
    let result = operator.clear_fallback(&node, Timestamp::now()).await;
    Ok(page.finish(&node, result))
}

fn promotion_page(node: &Node, status: &FallbackStatus) -> ActionPage {
    let heading = format!("Promote the fallback: {}", node.label());
    ActionPage::new(node, heading, action_path(node, PROMOTE), "Promote the fallback").destructive().basis(basis(status)).text(
        "The boot volume and the fallback change places for good: the next boot is from the present fallback, and the present \
         boot volume becomes the fallback. Nothing is detached.",
    )
}

/// `GET /ui/nodes/{node}/fallback/promote`
async fn ask_to_promote(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let status = operator.fallback_status(&node).await?;
    Ok(promotion_page(&node, &status).ask())
}

/// `POST /ui/nodes/{node}/fallback/promote`
async fn promote(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
    axum::Form(form): axum::Form<BasisForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let status = operator.fallback_status(&node).await?;
    let page = promotion_page(&node, &status);
    if !basis(&status).is_of(&form) {
        return Ok(page.reject_outdated());
    }
    let result = operator.promote_fallback(&node, Timestamp::now()).await;
    Ok(page.finish(&node, result))
}

/// `POST /ui/nodes/{node}/fallback/retry`
async fn retry(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
    axum::Form(form): axum::Form<BasisForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let status = operator.fallback_status(&node).await?;
    let heading = format!("Retry the own volume: {}", node.label());
    let page = ActionPage::new(&node, heading, action_path(&node, RETRY), "Retry the own volume")
        .basis(basis(&status))
        .text("The next boot is from the node's own volume, and the count of failed boots is 0.");
    if !basis(&status).is_of(&form) {
        return Ok(page.reject_outdated());
    }
    let result = operator.retry_own_volume(&node).await;
    Ok(page.finish(&node, result))
}
