//! Adds, changes and removes a volume of a node.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Deserialize;
use uuid::Uuid;

use super::find_node;
use super::group::action_path;
use super::page::{ActionPage, FormField};
use crate::model::{Node, StorageInterface, VolumeTarget};
use crate::operator::{Operator, VolumeError, VolumeValues};
use crate::web::SharedState;
use crate::web::enroll_form::FieldError;
use crate::web::page::ErrorPage;

/// The form of a volume. Browsers omit empty fields, or send them as empty text.
#[derive(Default, Deserialize)]
struct VolumeForm {
    #[serde(default)]
    volume: String,
    #[serde(default)]
    user: String,
    #[serde(default)]
    secret: SecretString,
}

/// What the form does.
#[derive(Debug, Clone, Copy)]
enum VolumeChange<'a> {
    Add,
    Replace(&'a VolumeTarget),
}

pub(super) fn router() -> Router<SharedState> {
    Router::new()
        .route("/ui/nodes/{node}/volumes", get(ask_to_add).post(add))
        .route("/ui/nodes/{node}/volumes/{target}", get(ask_to_change).post(change))
        .route("/ui/nodes/{node}/volumes/{target}/remove", get(ask_to_remove).post(remove))
}

/// The link to the form that adds a volume.
pub(in crate::web) fn link_to_addition(node: &Node) -> String {
    action_path(node, "volumes")
}

/// The link to the form that changes a volume.
pub(in crate::web) fn link_to_change(node: &Node, target: Uuid) -> String {
    action_path(node, &format!("volumes/{target}"))
}

/// The link to the form that removes a volume.
pub(in crate::web) fn link_to_removal(node: &Node, target: Uuid) -> String {
    action_path(node, &format!("volumes/{target}/remove"))
}

async fn find_target(operator: &Operator, node: &Node, target: &str) -> Result<VolumeTarget, ErrorPage> {
    let target = match target.parse() {
        Ok(uuid) => operator.inventory.get::<VolumeTarget>(uuid).await?,
        Err(_) => None,
    };
    target
        .map(|target| target.value)
        .filter(|target| target.node_uuid == node.uuid)
        .ok_or_else(|| ErrorPage::not_found(format!("Node {} has no such volume.", node.label())))
}

/// The page with the values of the form.
fn page(node: &Node, change: VolumeChange<'_>, form: &VolumeForm) -> ActionPage {
    let takes_cinder_volumes = node.storage_interface.uses_attachments();
    let (heading, path, button) = match change {
        VolumeChange::Add => ("Add a volume", link_to_addition(node), "Add the volume"),
        VolumeChange::Replace(target) => {
            ("Change the volume", link_to_change(node, target.uuid), "Change the volume")
        }
    };
    let page = ActionPage::new(node, format!("{heading}: {}", node.label()), path, button);
    let page = match change {
        VolumeChange::Add => page.text("The first volume of a node is the one that its machine boots from."),
        VolumeChange::Replace(target) => page.text(format!(
            "The new volume takes the place of {}. The machine must be off.",
            target.volume_id
        )),
    };
    let page = page.field(FormField {
        name: "volume",
        label: "Volume",
        value: form.volume.clone(),
        hint: if takes_cinder_volumes {
            "The UUID of a Cinder volume."
        } else {
            "The target: iscsi:SERVER::PORT:LUN:NAME"
        },
        is_required: true,
        ..FormField::default()
    });
    if takes_cinder_volumes {
        return page;
    }
    page.field(FormField::chap_user(&form.user)).field(FormField::chap_secret())
}

/// The response after an attempt to add or change a volume.
fn finish(
    node: &Node,
    change: VolumeChange<'_>,
    form: &VolumeForm,
    result: Result<(), VolumeError>,
) -> Response {
    let page = page(node, change, form);
    match result {
        Ok(()) => page.finish(node, Ok(())),
        Err(VolumeError::Refused(refusal)) => page.refuse(refusal),
        Err(VolumeError::Value(refusal)) => {
            page.reject(StatusCode::UNPROCESSABLE_ENTITY, FieldError::new(&refusal).text)
        }
        Err(VolumeError::Storage(storage)) => {
            page.reject(StatusCode::UNPROCESSABLE_ENTITY, describe_storage(&storage))
        }
    }
}

/// Which volumes a storage interface takes.
fn describe_storage(storage: &StorageInterface) -> String {
    let volumes = match storage {
        StorageInterface::Cinder => "the UUIDs of Cinder volumes",
        StorageInterface::External => {
            "targets such as iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1"
        }
        _ => "no volumes",
    };
    format!("The node's storage interface is {}, which takes {volumes}.", storage.as_str())
}

impl VolumeForm {
    /// The values, trimmed as at an enrollment.
    fn values(&self) -> VolumeValues<'_> {
        VolumeValues {
            volume: self.volume.trim(),
            chap_user: self.user.trim(),
            chap_secret: self.secret.clone(),
        }
    }
}

/// `GET /ui/nodes/{node}/volumes`
async fn ask_to_add(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    Ok(page(&node, VolumeChange::Add, &VolumeForm::default()).ask())
}

/// `POST /ui/nodes/{node}/volumes`
async fn add(
    State(operator): State<SharedState>,
    Path(ident): Path<String>,
    axum::Form(form): axum::Form<VolumeForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let result = operator.add_volume(&node, &form.values(), Timestamp::now()).await;
    Ok(finish(&node, VolumeChange::Add, &form, result))
}

/// `GET /ui/nodes/{node}/volumes/{target}`
async fn ask_to_change(
    State(operator): State<SharedState>,
    Path((ident, target)): Path<(String, String)>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let target = find_target(&operator, &node, &target).await?;
    Ok(page(&node, VolumeChange::Replace(&target), &VolumeForm::default()).ask())
}

/// `POST /ui/nodes/{node}/volumes/{target}`
async fn change(
    State(operator): State<SharedState>,
    Path((ident, target)): Path<(String, String)>,
    axum::Form(form): axum::Form<VolumeForm>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let target = find_target(&operator, &node, &target).await?;
    let result = operator.change_volume(&node, target.uuid, &form.values(), Timestamp::now()).await;
    Ok(finish(&node, VolumeChange::Replace(&target), &form, result))
}

fn removal_page(node: &Node, target: &VolumeTarget) -> ActionPage {
    let heading = format!("Remove a volume: {}", node.label());
    let path = link_to_removal(node, target.uuid);
    let page = ActionPage::new(node, heading, path, "Remove the volume").destructive();
    page.text(format!(
        "The node loses volume {}, and its attachment is ended. The volume itself stays. The machine must be off.",
        target.volume_id
    ))
}

/// `GET /ui/nodes/{node}/volumes/{target}/remove`
async fn ask_to_remove(
    State(operator): State<SharedState>,
    Path((ident, target)): Path<(String, String)>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let target = find_target(&operator, &node, &target).await?;
    Ok(removal_page(&node, &target).ask())
}

/// `POST /ui/nodes/{node}/volumes/{target}/remove`
async fn remove(
    State(operator): State<SharedState>,
    Path((ident, target)): Path<(String, String)>,
) -> Result<Response, ErrorPage> {
    let node = find_node(&operator, &ident).await?;
    let target = find_target(&operator, &node, &target).await?;
    let result = operator.remove_volume(target.uuid).await;
    Ok(removal_page(&node, &target).finish(&node, result))
}
