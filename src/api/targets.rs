//! `/v1/volume/targets`: the volumes assigned to nodes.

use serde_json::Value;

use super::field::{Field, FieldValues, Shape};
use super::request::ApiRequest;
use super::resource::{ApiResource, format_optional_time, format_time};
use super::volumes::{RecordIdentity, VolumeRecord};
use crate::model::VolumeTarget;

impl ApiResource for VolumeTarget {
    const PATH: &'static str = "volume/targets";
    const LIST: &'static str = "targets";

    const FIELDS: &'static [Field] = &[
        Field::create_only("uuid", Shape::Uuid).in_summary(),
        Field::writable("node_uuid", Shape::Uuid).required().in_summary().unsortable(),
        Field::writable("volume_type", Shape::Text(64)).required().in_summary(),
        Field::writable("volume_id", Shape::Text(255)).required().in_summary(),
        Field::writable("boot_index", Shape::Integer).required().in_summary(),
        Field::writable("properties", Shape::Object),
        Field::writable("extra", Shape::Object),
        Field::read_only("created_at", Shape::Time),
        Field::read_only("updated_at", Shape::Time),
        Field::read_only("links", Shape::Links),
    ];

    fn field(&self, name: &str, _: &ApiRequest) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "node_uuid" => self.node_uuid.to_string().into(),
            "volume_type" => self.volume_type.clone().into(),
            "volume_id" => self.volume_id.clone().into(),
            "boot_index" => self.boot_index.into(),
            "properties" => self.properties.to_masked().into(),
            "extra" => self.extra.to_masked().into(),
            "created_at" => format_time(self.created_at),
            "updated_at" => format_optional_time(self.updated_at),
            _ => Value::Null,
        }
    }
}

impl VolumeRecord for VolumeTarget {
    const NOUN: &'static str = "target";

    fn volume_target(&self) -> Option<&VolumeTarget> {
        Some(self)
    }

    fn from_values(identity: RecordIdentity, values: &FieldValues) -> Self {
        Self {
            uuid: identity.uuid,
            created_at: identity.created_at,
            updated_at: identity.updated_at,
            node_uuid: values.uuid("node_uuid").unwrap_or_default(),
            volume_type: values.text("volume_type").unwrap_or_default(),
            volume_id: values.text("volume_id").unwrap_or_default(),
            boot_index: values.integer("boot_index").unwrap_or_default(),
            properties: values.object("properties").into(),
            extra: values.object("extra").into(),
        }
    }
}
