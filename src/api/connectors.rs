//! `/v1/volume/connectors`: what nodes show to a storage network.

use serde_json::Value;

use super::call::Call;
use super::field::{Field, Given, Shape};
use super::shown::{Shown, maybe_time, time};
use super::volumes::{Identity, Volume};
use crate::model::VolumeConnector;

impl Shown for VolumeConnector {
    const PATH: &'static str = "volume/connectors";
    const LIST: &'static str = "connectors";

    const FIELDS: &'static [Field] = &[
        Field::fixed("uuid", Shape::Uuid).listed(),
        Field::given("node_uuid", Shape::Uuid).required().listed().unsorted(),
        Field::given("type", Shape::Text(32)).required().listed(),
        Field::given("connector_id", Shape::Text(255)).required().listed(),
        Field::given("extra", Shape::Object),
        Field::shown("created_at", Shape::Time),
        Field::shown("updated_at", Shape::Time),
        Field::shown("links", Shape::Links),
    ];

    fn field(&self, name: &str, _: &Call) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "node_uuid" => self.node_uuid.to_string().into(),
            "type" => self.kind.clone().into(),
            "connector_id" => self.connector_id.clone().into(),
            "extra" => self.extra.masked().into(),
            "created_at" => time(self.created_at),
            "updated_at" => maybe_time(self.updated_at),
            _ => Value::Null,
        }
    }
}

impl Volume for VolumeConnector {
    const NOUN: &'static str = "connector";

    fn made(identity: Identity, given: &Given) -> Self {
        Self {
            uuid: identity.uuid,
            created_at: identity.created_at,
            updated_at: identity.updated_at,
            node_uuid: given.uuid("node_uuid").unwrap_or_default(),
            kind: given.text("type").unwrap_or_default(),
            connector_id: given.text("connector_id").unwrap_or_default(),
            extra: given.object("extra").into(),
        }
    }
}
