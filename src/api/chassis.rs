//! `/v1/chassis`: the enclosures of nodes.

use serde_json::{Value, json};
use uuid::Uuid;

use super::collection::{Collection, Parent, Scope};
use super::fault::{Fault, map_update_error};
use super::field::{Field, FieldValues, Purpose, Shape, parse_uuid};
use super::list::{RecordFilter, exists};
use super::patch::{Patch, document};
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, JsonBody, PathParam};
use super::resource::{ApiResource, FieldSelection, format_optional_time, format_time, show};
use crate::model::{Chassis, Node};

impl ApiResource for Chassis {
    const PATH: &'static str = "chassis";

    const FIELDS: &'static [Field] = &[
        Field::create_only("uuid", Shape::Uuid).in_summary(),
        Field::writable("description", Shape::Text(255)).in_summary(),
        Field::writable("extra", Shape::Object),
        Field::read_only("created_at", Shape::Time),
        Field::read_only("updated_at", Shape::Time),
        Field::read_only("links", Shape::Links),
        Field::read_only("nodes", Shape::Links),
    ];

    fn field(&self, name: &str, request: &ApiRequest) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "description" => self.description.clone().into(),
            "extra" => self.extra.to_masked().into(),
            "created_at" => format_time(self.created_at),
            "updated_at" => format_optional_time(self.updated_at),
            // Ironic nests the list in another list; clients expect this.
            "nodes" => json!([request.links.pair(&format!("chassis/{}/nodes", self.uuid))]),
            _ => Value::Null,
        }
    }
}

impl Collection for Chassis {
    async fn build_filter(_: &ApiRequest, _: Scope) -> Result<RecordFilter<Self>, Fault> {
        Ok(RecordFilter::new(None, |_: &Self| true))
    }
}

impl Parent for Chassis {
    async fn find(request: &ApiRequest, ident: &str) -> Result<Self, Fault> {
        find_chassis(request, parse_ident(ident)?).await
    }

    fn scope(&self) -> Scope {
        Scope { chassis: Some(self.uuid), ..Scope::default() }
    }
}

fn apply_values(chassis: Chassis, values: &FieldValues) -> Chassis {
    Chassis { description: values.text("description"), extra: values.object("extra").into(), ..chassis }
}

/// Parses the UUID that a client sent in a path.
fn parse_ident(ident: &str) -> Result<Uuid, Fault> {
    parse_uuid("chassis_uuid", ident)
}

/// Finds a chassis, or returns 404.
pub(super) async fn find_chassis(request: &ApiRequest, uuid: Uuid) -> Result<Chassis, Fault> {
    let record = request.operator.inventory.get::<Chassis>(uuid).await?;
    record.map(|chassis| chassis.value).ok_or_else(|| Fault::not_found::<Chassis>(uuid))
}

/// `POST /v1/chassis`
pub(super) async fn create(request: ApiRequest, JsonBody(body): JsonBody) -> HandlerResult {
    let values = FieldValues::validate(Chassis::FIELDS, Purpose::Creation, "chassis", body)?;
    let chassis = Chassis {
        uuid: values.uuid("uuid").unwrap_or_else(Uuid::new_v4),
        created_at: request.now,
        updated_at: None,
        description: None,
        extra: crate::model::Properties::default(),
    };
    let chassis = apply_values(chassis, &values);
    request.operator.inventory.create(&chassis).await?;
    Ok(Reply::for_new_record(&request, &chassis))
}

/// `GET /v1/chassis/{chassis}`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    request.query.reject_unknown(&["fields"])?;
    let selection = FieldSelection::for_record::<Chassis>(&request)?;
    Ok(Reply::Json(show(&find_chassis(&request, parse_ident(&ident)?).await?, &request, &selection)))
}

/// `PATCH /v1/chassis/{chassis}`
pub(super) async fn update(
    request: ApiRequest,
    PathParam(ident): PathParam<String>,
    JsonBody(body): JsonBody,
) -> HandlerResult {
    let uuid = parse_ident(&ident)?;
    let patch = Patch::parse::<Chassis>(body, &request)?;
    let change = |old: &Chassis, _: Option<&Node>| {
        let values = patch.apply::<Chassis>(document(old))?;
        Ok(Chassis { updated_at: Some(request.now), ..apply_values(old.clone(), &values) })
    };
    let chassis =
        request.operator.inventory.update(uuid, change).await.map_err(map_update_error::<Chassis>(uuid))?;
    Ok(Reply::Json(show(&chassis, &request, &FieldSelection::All)))
}

/// `DELETE /v1/chassis/{chassis}`
pub(super) async fn delete(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    let uuid = find_chassis(&request, parse_ident(&ident)?).await?.uuid;
    let members = RecordFilter::new(None, move |node: &Node| node.chassis_uuid == Some(uuid));
    if exists(&request, members).await? {
        return Err(Fault::Invalid(format!(
            "Cannot complete the requested action because chassis {uuid} contains nodes."
        )));
    }
    let check = |_: &Chassis, _: Option<&Node>| Ok(());
    request.operator.inventory.delete(uuid, check).await.map_err(map_update_error::<Chassis>(uuid))?;
    Ok(Reply::NoContent)
}
