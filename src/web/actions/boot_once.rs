//! The one-time boot: set what the machine boots next time, and cancel it.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;

use super::basis::{Basis, BasisForm};
use super::find_node;
use super::group::{ActionGroup, action_path};
use super::page::{ActionPage, FieldKind, FormField};
use crate::model::{BootOnce, Node};
use crate::operator::{DEFAULT_ONCE_TTL, OnceRequest, OperationRefusal, SourceText};
use crate::web::SharedState;
use crate::web::format::{self, Severity, to_sentence};
use crate::web::page::ErrorPage;

const SET: &str = "boot-once";
const CANCEL: &str = "boot-once/cancel";

/// The form. Browsers omit empty fields, or send them as empty text.
#[derive(Default, Deserialize)]
struct OnceForm {
    #[serde(default)]
    source: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    secret: SecretString,
    /// `on`, if it is checked.
    #[serde(default)]
    with_volumes: String,
    #[serde(default)]
    shared: String,
}

pub(super) fn router() -> Router<SharedState> {
    Router::new()
        .route("/ui/nodes/{node}/boot-once", get(ask).post(set))
        .route("/ui/nodes/{node}/boot-once/cancel", get(ask_to_cancel).post(cancel))
}

/// The one-time boot of a node, in every state.
pub(super) fn group(node: &Node, once: Option<&BootOnce>, now: Timestamp) -> ActionGroup {
    let group = ActionGroup::new("One-time boot");
    let Some(once) = once else {
        return group.state(Severity::Neutral, "none").link("Set", action_path(node, SET));
    };
    let source = format!("From {}.", once.source);
    let group = match (once.consumed_at, once.is_armed(now)) {
        (Some(at), _) => group.state(Severity::Info, "in use").note(format!(
            "{source} Given to the machine {}; it ends with the next boot.",
            format::time_ago(at, now)
        )),
        (None, true) => group
            .state(Severity::Info, "at the next boot")
            .note(format!("{source} Until {}.", format::date_time(once.expires_at))),
        (None, false) => group.state(Severity::Neutral, "expired").note(source),
    };
    let group = group.link("Set", action_path(node, SET));
    // Before the machine has got it, nothing is lost with it.
    match once.journey {
        Some(_) => group.link("Cancel", action_path(node, CANCEL)),
        None => group.button_for("Cancel", action_path(node, CANCEL), basis(once)),
    }
}

/// What a cancellation ends: this record, before or after a boot session of the machine got it.
fn basis(once: &BootOnce) -> Basis {
    Basis::of(&[&once.uuid.to_string(), once.journey.as_deref().unwrap_or_default()])
}

fn cancellation_page(node: &Node, once: Option<&BootOnce>) -> ActionPage {
    let heading = format!("Cancel the one-time boot: {}", node.label());
    let page = ActionPage::new(node, heading, action_path(node, CANCEL), "Cancel the one-time boot");
    let Some(once) = once else { return page.text("The node has no one-time boot.") };
    let page = page.destructive().basis(basis(once));
    match once.journey {
        Some(_) => page.text(
            "The machine may run from the volume of its one-time boot, and loses it at once. Without the cancellation, \
             the one-time boot ends with the next boot.",
        ),
        None => page.text(format!("From {}. The machine has not got it yet.", once.source)),
    }
}

fn page(node: &Node, form: &OnceForm) -> ActionPage {
    let heading = format!("Set a one-time boot: {}", node.label());
    ActionPage::new(node, heading, action_path(node, SET), "Set the one-time boot")
        .text("The next boot of the machine, within an hour, is from this source. The boot after it is the node's own again.")
        .field(FormField {
            name: "source",
            label: "Source",
            value: form.source.clone(),
            hint: "The UUID of a Cinder volume, a target (iscsi:SERVER::PORT:LUN:NAME), a URL for iPXE, \"local\" for the \
                   local disk, or \"shell\" for the iPXE shell.",
            is_required: true,
            ..FormField::default()
        })
        .field(FormField::chap_user(&form.user))
        .field(FormField::chap_secret())
        .field(FormField {
            name: "with_volumes",
            label: "With the node's own volumes as further drives",
            kind: FieldKind::Checkbox,
            ..FormField::default()
        })
        .field(FormField::shared())
}

impl OnceForm {
    /// The request, by the form of the source.
    fn to_request(&self) -> Result<OnceRequest, OperationRefusal> {
        let user = self.user.trim();
        let text = SourceText {
            chap_user: Some(user).filter(|user| !user.is_empty()),
            chap_secret: self.secret.clone(),
            ..SourceText::default()
        };
        let text = match self.source.trim() {
            "local" => SourceText { local: true, ..text },
            "shell" => SourceText { shell: true, ..text },
            target if target.starts_with("iscsi:") => SourceText { target: Some(target), ..text },
            url if url.contains("://") => SourceText { url: Some(url), ..text },
            volume => SourceText { volume: Some(volume), ..text },
        };
        Ok(OnceRequest {
            source: text.parse()?,
            with_volumes: self.with_volumes == "on",
            shared: self.shared == "on",
            ttl: DEFAULT_ONCE_TTL,
        })
    }
}

/// `GET /ui/nodes/{node}/boot-once`
async fn ask(State(operator): State<SharedState>, Path(ident): Path<String>) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    Ok(page(&node, &OnceForm::default()).ask())
}

/// `POST /ui/nodes/{node}/boot-once`
async fn set(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
    axum::Form(form): axum::Form<OnceForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let request = match form.to_request() {
        Ok(request) => request,
        Err(refusal) => {
            let page = page(&node, &form);
            return Ok(page.reject(StatusCode::UNPROCESSABLE_ENTITY, to_sentence(&refusal)));
        }
    };
    let result = operator.set_boot_once(&node, request, Timestamp::now()).await.map(drop);
    Ok(page(&node, &form).finish(&node, result))
}

/// `GET /ui/nodes/{node}/boot-once/cancel`
async fn ask_to_cancel(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let once = operator.find_boot_once(&node).await?;
    Ok(cancellation_page(&node, once.as_ref()).ask())
}

/// `POST /ui/nodes/{node}/boot-once/cancel`
async fn cancel(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
    axum::Form(form): axum::Form<BasisForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let is_shown = |once: &BootOnce| basis(once).is_of(&form);
    let is_cancelled = operator.cancel_boot_once_if(&node, is_shown, Timestamp::now()).await;
    let once = operator.find_boot_once(&node).await?;
    let page = cancellation_page(&node, once.as_ref());
    match is_cancelled {
        Ok(false) => Ok(page.reject_outdated()),
        result => Ok(page.finish(&node, result.map(drop))),
    }
}
