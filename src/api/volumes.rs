//! `/v1/volume`: the shared handlers of volume connectors and volume targets.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::collection::{Collection, Scope};
use super::fault::{Fault, map_update_error};
use super::field::{self, FieldValues, Purpose};
use super::list::RecordFilter;
use super::node::find_node;
use super::patch::{Patch, document};
use super::relink::find_new_nodes;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, JsonBody, PathParam};
use super::resource::{ApiResource, FieldSelection, show};
use crate::model::{Node, VolumeTarget};
use crate::operator::{check_power_off, check_volume_removal};

/// A volume connector or a volume target.
pub(super) trait VolumeRecord: ApiResource {
    /// The kind's name without `volume`.
    const NOUN: &'static str;

    /// The record, if it is a volume target.
    fn volume_target(&self) -> Option<&VolumeTarget> {
        None
    }

    /// Builds the record from validated values; required fields are present.
    fn from_values(identity: RecordIdentity, values: &FieldValues) -> Self;
}

impl<R: VolumeRecord> Collection for R {
    const FILTERS: &'static [&'static str] = &["node"];
    const DETAIL_SINCE: Option<u16> = Some(32);

    async fn build_filter(request: &ApiRequest, scope: Scope) -> Result<RecordFilter<Self>, Fault> {
        Ok(RecordFilter::new(scope.resolve_node(request).await?, |_: &Self| true))
    }
}

/// The fields of a record that clients cannot write.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordIdentity {
    pub(super) uuid: Uuid,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Option<Timestamp>,
}

/// `GET /v1/volume`
pub(super) async fn index(request: ApiRequest) -> HandlerResult {
    Ok(Reply::Json(build_index(&request, "volume")))
}

/// `GET /v1/nodes/{node}/volume`
pub(super) async fn index_of_node(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let node = find_node(&request, &ident).await?;
    Ok(Reply::Json(build_index(&request, &format!("nodes/{}/volume", node.uuid))))
}

fn build_index(request: &ApiRequest, path: &str) -> Value {
    json!({
        "links": request.links.pair(&format!("{path}/")),
        "connectors": request.links.pair(&format!("{path}/connectors")),
        "targets": request.links.pair(&format!("{path}/targets")),
    })
}

/// `POST /v1/volume/connectors` and `…/targets`
pub(super) async fn create<R: VolumeRecord>(request: ApiRequest, JsonBody(body): JsonBody) -> HandlerResult {
    let values = FieldValues::validate(R::FIELDS, Purpose::Creation, R::NOUN, body)?;
    let uuid = values.uuid("uuid").unwrap_or_else(Uuid::new_v4);
    let record = R::from_values(RecordIdentity { uuid, created_at: request.now, updated_at: None }, &values);
    check_volume_target(&request, &record).await?;
    request.operator.inventory.create(&record).await?;
    Ok(Reply::for_new_record(&request, &record))
}

/// `GET /v1/volume/connectors/{uuid}` and `…/targets/{uuid}`
pub(super) async fn get<R: VolumeRecord>(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let uuid = parse_identity::<R>(&ident)?;
    let selection = FieldSelection::for_record::<R>(&request)?;
    let record =
        request.operator.inventory.get::<R>(uuid).await?.ok_or_else(|| Fault::not_found::<R>(uuid))?;
    Ok(Reply::Json(show(&record.value, &request, &selection)))
}

/// `PATCH /v1/volume/connectors/{uuid}` and `…/targets/{uuid}`
pub(super) async fn update<R: VolumeRecord>(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    JsonBody(body): JsonBody,
) -> HandlerResult {
    let uuid = parse_identity::<R>(&ident)?;
    let patch = Patch::parse::<R>(body, &request)?;
    let action = format!("volume {} update", R::NOUN);
    for node in find_new_nodes::<R>(&request, uuid, &patch).await? {
        // The new node's machine must be off as well.
        check_power_off(&action, Some(&node))?;
    }
    if ["node_uuid", "volume_id", "properties"].iter().any(|field| patch.writes(field))
        && let Some(old) = request.operator.inventory.get::<R>(uuid).await?
        // The change below says what is wrong with the patch.
        && let Ok(values) = patch.apply::<R>(document(&old.value))
    {
        let identity = RecordIdentity { uuid, created_at: request.now, updated_at: None };
        check_volume_target(&request, &R::from_values(identity, &values)).await?;
    }
    let change = |old: &R, node: Option<&Node>| {
        let values = patch.apply::<R>(document(old))?;
        check_power_off(&action, node)?;
        let identity = RecordIdentity { uuid, created_at: old.created_at(), updated_at: Some(request.now) };
        Ok(R::from_values(identity, &values))
    };
    let record =
        request.operator.inventory.update(uuid, change).await.map_err(map_update_error::<R>(uuid))?;
    Ok(Reply::Json(show(&record, &request, &FieldSelection::All)))
}

/// `DELETE /v1/volume/connectors/{uuid}` and `…/targets/{uuid}`
pub(super) async fn delete<R: VolumeRecord>(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
) -> HandlerResult {
    let uuid = parse_identity::<R>(&ident)?;
    let action = format!("volume {} deletion", R::NOUN);
    let check = |_: &R, node: Option<&Node>| check_volume_removal(&action, node).map_err(Fault::from);
    request.operator.inventory.delete(uuid, check).await.map_err(map_update_error::<R>(uuid))?;
    Ok(Reply::NoContent)
}

/// Refuses a volume target whose volume another node keeps for itself.
async fn check_volume_target<R: VolumeRecord>(request: &ApiRequest, record: &R) -> Result<(), Fault> {
    match record.volume_target() {
        Some(target) => Ok(request.operator.check_volume_target(target, request.now).await?),
        None => Ok(()),
    }
}

/// Rejects writes below a node's path, which only serves lists, as in Ironic.
pub(super) async fn reject_malformed_uri() -> HandlerResult {
    Err(Fault::Invalid("Malformed request URI.".into()))
}

fn parse_identity<R: VolumeRecord>(ident: &str) -> Result<Uuid, Fault> {
    field::parse_uuid(&format!("{}_uuid", R::NOUN), ident)
}
