//! `/v1/volume/targets`: the volumes that nodes are to have.

use serde_json::Value;

use super::call::Call;
use super::field::{Field, Given, Shape};
use super::shown::{Shown, maybe_time, time};
use super::volumes::{Identity, Volume};
use crate::model::VolumeTarget;

impl Shown for VolumeTarget {
    const PATH: &'static str = "volume/targets";
    const LIST: &'static str = "targets";

    const FIELDS: &'static [Field] = &[
        Field::fixed("uuid", Shape::Uuid).listed(),
        Field::given("node_uuid", Shape::Uuid).required().listed().unsorted(),
        Field::given("volume_type", Shape::Text(64)).required().listed(),
        Field::given("volume_id", Shape::Text(255)).required().listed(),
        Field::given("boot_index", Shape::Integer).required().listed(),
        Field::given("properties", Shape::Object),
        Field::given("extra", Shape::Object),
        Field::shown("created_at", Shape::Time),
        Field::shown("updated_at", Shape::Time),
        Field::shown("links", Shape::Links),
    ];

    fn field(&self, name: &str, _: &Call) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "node_uuid" => self.node_uuid.to_string().into(),
            "volume_type" => self.volume_type.clone().into(),
            "volume_id" => self.volume_id.clone().into(),
            "boot_index" => self.boot_index.into(),
            "properties" => self.properties.masked().into(),
            "extra" => self.extra.masked().into(),
            "created_at" => time(self.created_at),
            "updated_at" => maybe_time(self.updated_at),
            _ => Value::Null,
        }
    }
}

impl Volume for VolumeTarget {
    const NOUN: &'static str = "target";

    fn made(identity: Identity, given: &Given) -> Self {
        Self {
            uuid: identity.uuid,
            created_at: identity.created_at,
            updated_at: identity.updated_at,
            node_uuid: given.uuid("node_uuid").unwrap_or_default(),
            volume_type: given.text("volume_type").unwrap_or_default(),
            volume_id: given.text("volume_id").unwrap_or_default(),
            boot_index: given.integer("boot_index").unwrap_or_default(),
            properties: given.object("properties").into(),
            extra: given.object("extra").into(),
        }
    }
}
