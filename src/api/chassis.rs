//! `/v1/chassis`: what nodes stand in.

use serde_json::{Value, json};
use uuid::Uuid;

use super::call::{At, Call, Sent};
use super::fault::{Fault, unchanged};
use super::field::{Field, Given, Purpose, Shape, uuid};
use super::list::{ARGUMENTS, Listing, any};
use super::patch::{Patch, document};
use super::reply::{Answer, Reply};
use super::shown::{Choice, Shown, maybe_time, show, time};
use crate::model::{Chassis, Node};

impl Shown for Chassis {
    const PATH: &'static str = "chassis";

    const FIELDS: &'static [Field] = &[
        Field::fixed("uuid", Shape::Uuid).listed(),
        Field::given("description", Shape::Text(255)).listed(),
        Field::given("extra", Shape::Object),
        Field::shown("created_at", Shape::Time),
        Field::shown("updated_at", Shape::Time),
        Field::shown("links", Shape::Links),
        Field::shown("nodes", Shape::Links),
    ];

    fn field(&self, name: &str, call: &Call) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "description" => self.description.clone().into(),
            "extra" => self.extra.masked().into(),
            "created_at" => time(self.created_at),
            "updated_at" => maybe_time(self.updated_at),
            // A list within a list: so it is in Ironic, and so clients know it.
            "nodes" => json!([call.links.pair(&format!("chassis/{}/nodes", self.uuid))]),
            _ => Value::Null,
        }
    }
}

fn written(chassis: Chassis, given: &Given) -> Chassis {
    Chassis { description: given.text("description"), extra: given.object("extra").into(), ..chassis }
}

/// The chassis of a UUID that a client gave.
pub(super) async fn found(call: &Call, ident: &str) -> Result<Chassis, Fault> {
    let uuid = uuid("chassis_uuid", ident)?;
    let found = call.state.inventory.get::<Chassis>(uuid).await?;
    found.map(|chassis| chassis.value).ok_or_else(|| Fault::missing::<Chassis>(uuid))
}

/// `POST /v1/chassis`
pub(super) async fn create(call: Call, Sent(body): Sent) -> Answer {
    let given = Given::checked(Chassis::FIELDS, Purpose::Creation, "chassis", body)?;
    let chassis = Chassis {
        uuid: given.uuid("uuid").unwrap_or_else(Uuid::new_v4),
        created_at: call.now,
        updated_at: None,
        description: None,
        extra: crate::model::Properties::default(),
    };
    let chassis = written(chassis, &given);
    call.state.inventory.create(&chassis).await?;
    Ok(Reply::created(&call, &chassis))
}

/// `GET /v1/chassis`
pub(super) async fn list(call: Call) -> Answer {
    call.query.only(&ARGUMENTS)?;
    let choice = Choice::of_list::<Chassis>(&call, 43)?;
    page(&call, "chassis", choice).await
}

/// `GET /v1/chassis/detail`
pub(super) async fn detail(call: Call) -> Answer {
    call.query.only(&ARGUMENTS[..4])?;
    page(&call, "chassis/detail", Choice::All).await
}

async fn page(call: &Call, path: &str, choice: Choice) -> Answer {
    let listing =
        Listing::<Chassis> { call, path: path.into(), choice, of_node: None, keeps: Box::new(|_| true) };
    listing.page().await.map(Reply::Shown)
}

/// `GET /v1/chassis/{chassis}`
pub(super) async fn get(call: Call, At(ident): At<String>) -> Answer {
    call.query.only(&["fields"])?;
    let choice = Choice::of_one::<Chassis>(&call)?;
    Ok(Reply::Shown(show(&found(&call, &ident).await?, &call, &choice)))
}

/// `PATCH /v1/chassis/{chassis}`
pub(super) async fn update(call: Call, At(ident): At<String>, Sent(body): Sent) -> Answer {
    let uuid = uuid("chassis_uuid", &ident)?;
    let patch = Patch::read::<Chassis>(body, &call)?;
    let change = |old: &Chassis, _: Option<&Node>| {
        let given = patch.applied::<Chassis>(document(old))?;
        Ok(Chassis { updated_at: Some(call.now), ..written(old.clone(), &given) })
    };
    let chassis = call.state.inventory.update(uuid, change).await.map_err(unchanged::<Chassis>(uuid))?;
    Ok(Reply::Shown(show(&chassis, &call, &Choice::All)))
}

/// `DELETE /v1/chassis/{chassis}`
pub(super) async fn delete(call: Call, At(ident): At<String>) -> Answer {
    let uuid = found(&call, &ident).await?.uuid;
    if any(&call, None, Box::new(move |node: &Node| node.chassis_uuid == Some(uuid))).await? {
        return Err(Fault::Invalid(format!(
            "Cannot complete the requested action because chassis {uuid} contains nodes."
        )));
    }
    let allowed = |_: &Chassis, _: Option<&Node>| Ok(());
    call.state.inventory.delete(uuid, allowed).await.map_err(unchanged::<Chassis>(uuid))?;
    Ok(Reply::Done)
}
