//! `/v1/volume`: volume connectors and volume targets, which are handled alike.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::call::{At, Call, Sent};
use super::fault::{Fault, quoted, unchanged};
use super::field::{self, Given, Purpose};
use super::list::{ARGUMENTS, Listing};
use super::node::found;
use super::patch::{Patch, document};
use super::reply::{Answer, Reply};
use super::shown::{Choice, Shown, show};
use crate::model::{Node, PowerState, ProvisionState};

/// A connector or a target.
pub(super) trait Volume: Shown {
    /// What it is called behind `volume`.
    const NOUN: &'static str;

    /// The record of what was given. What it cannot do without has been checked to be there.
    fn made(identity: Identity, given: &Given) -> Self;
}

/// What of a record no client writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    pub(super) uuid: Uuid,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Option<Timestamp>,
}

/// `GET /v1/volume`
pub(super) async fn index(call: Call) -> Answer {
    Ok(Reply::Shown(contents(&call, "volume")))
}

/// `GET /v1/nodes/{node}/volume`
pub(super) async fn index_of_node(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?;
    Ok(Reply::Shown(contents(&call, &format!("nodes/{}/volume", node.uuid))))
}

fn contents(call: &Call, path: &str) -> Value {
    json!({
        "links": call.links.pair(&format!("{path}/")),
        "connectors": call.links.pair(&format!("{path}/connectors")),
        "targets": call.links.pair(&format!("{path}/targets")),
    })
}

/// `POST /v1/volume/connectors` and `…/targets`
pub(super) async fn create<R: Volume>(call: Call, Sent(body): Sent) -> Answer {
    let given = Given::checked(R::FIELDS, Purpose::Creation, R::NOUN, body)?;
    let uuid = given.uuid("uuid").unwrap_or_else(Uuid::new_v4);
    let record = R::made(Identity { uuid, created_at: call.now, updated_at: None }, &given);
    call.state.inventory.create(&record).await?;
    Ok(Reply::created(&call, &record))
}

/// `GET /v1/volume/connectors` and `…/targets`
pub(super) async fn list<R: Volume>(call: Call) -> Answer {
    let of_node = match call.query.text("node")? {
        Some(ident) => Some(found(&call, ident).await?.uuid),
        None => None,
    };
    page::<R>(&call, R::PATH.to_owned(), of_node).await
}

/// `GET /v1/nodes/{node}/volume/connectors` and `…/targets`
pub(super) async fn list_of_node<R: Volume>(call: Call, At(ident): At<String>) -> Answer {
    let node = found(&call, &ident).await?.uuid;
    page::<R>(&call, format!("nodes/{node}/{}", R::PATH), Some(node)).await
}

async fn page<R: Volume>(call: &Call, path: String, of_node: Option<Uuid>) -> Answer {
    let known: Vec<_> = ARGUMENTS.iter().chain(&["node"]).copied().collect();
    call.query.only(&known)?;
    let choice = Choice::of_list::<R>(call, 32)?;
    Ok(Reply::Shown(Listing::<R> { call, path, choice, of_node, keeps: Box::new(|_| true) }.page().await?))
}

/// `GET /v1/volume/connectors/{uuid}` and `…/targets/{uuid}`
pub(super) async fn get<R: Volume>(call: Call, At(ident): At<String>) -> Answer {
    call.query.only(&["fields"])?;
    let uuid = identity::<R>(&ident)?;
    let choice = Choice::of_one::<R>(&call)?;
    let found = call.state.inventory.get::<R>(uuid).await?.ok_or_else(|| Fault::missing::<R>(uuid))?;
    Ok(Reply::Shown(show(&found.value, &call, &choice)))
}

/// `PATCH /v1/volume/connectors/{uuid}` and `…/targets/{uuid}`
pub(super) async fn update<R: Volume>(call: Call, At(ident): At<String>, Sent(body): Sent) -> Answer {
    let uuid = identity::<R>(&ident)?;
    let patch = Patch::read::<R>(body, &call)?;
    let action = format!("volume {} update", R::NOUN);
    for node in patch.values("node_uuid") {
        // It goes to another machine, which must be off as well.
        updatable(&action, Some(&new_node(&call, node).await?))?;
    }
    let change = |old: &R, node: Option<&Node>| {
        let given = patch.applied::<R>(document(old))?;
        updatable(&action, node)?;
        let identity = Identity { uuid, created_at: old.created_at(), updated_at: Some(call.now) };
        Ok(R::made(identity, &given))
    };
    let record = call.state.inventory.update(uuid, change).await.map_err(unchanged::<R>(uuid))?;
    Ok(Reply::Shown(show(&record, &call, &Choice::All)))
}

/// `DELETE /v1/volume/connectors/{uuid}` and `…/targets/{uuid}`
pub(super) async fn delete<R: Volume>(call: Call, At(ident): At<String>) -> Answer {
    let uuid = identity::<R>(&ident)?;
    let allowed = |_: &R, node: Option<&Node>| deletable(&format!("volume {} deletion", R::NOUN), node);
    call.state.inventory.delete(uuid, allowed).await.map_err(unchanged::<R>(uuid))?;
    Ok(Reply::Done)
}

/// What is under a node's path can be listed there, and nothing else (Ironic answers the same).
pub(super) async fn malformed() -> Answer {
    Err(Fault::Invalid("Malformed request URI.".into()))
}

fn identity<R: Volume>(ident: &str) -> Result<Uuid, Fault> {
    field::uuid(&format!("{}_uuid", R::NOUN), ident)
}

/// The node to which a patch gives a volume.
async fn new_node(call: &Call, node: &Value) -> Result<Node, Fault> {
    let uuid = node.as_str().and_then(|text| text.parse().ok());
    let fault = || Fault::Invalid(format!("Expected a UUID for node_uuid, but received {}.", quoted(node)));
    let found = call.state.inventory.get::<Node>(uuid.ok_or_else(fault)?).await?;
    let fault = || {
        Fault::Invalid(format!(
            "Unable to apply the requested node_uuid {}. Requested value was invalid.",
            quoted(node)
        ))
    };
    found.map(|node| node.value).ok_or_else(fault)
}

/// What a node's volumes are may change while the machine is off; not knowing whether it is, is not enough.
fn updatable(action: &str, node: Option<&Node>) -> Result<(), Fault> {
    match node {
        Some(node) if node.power_state != Some(PowerState::Off) => {
            let state = node.power_state.map_or("None", PowerState::as_str);
            Err(Fault::wrong_state(action, node.uuid, state))
        }
        _ => Ok(()),
    }
}

/// Taking a volume away is also allowed where the machine cannot be using it.
fn deletable(action: &str, node: Option<&Node>) -> Result<(), Fault> {
    use ProvisionState::{AdoptFailed, Enroll, Manageable};
    match node {
        Some(node) if matches!(node.provision_state, Enroll | Manageable | AdoptFailed) => Ok(()),
        node => updatable(action, node),
    }
}
