//! `/v1/volume/connectors`: the initiator names and addresses of nodes.

use serde_json::Value;

use super::field::{Field, FieldValues, Shape};
use super::request::ApiRequest;
use super::resource::{ApiResource, format_optional_time, format_time};
use super::volumes::{RecordIdentity, VolumeRecord};
use crate::model::VolumeConnector;

impl ApiResource for VolumeConnector {
    const PATH: &'static str = "volume/connectors";
    const LIST: &'static str = "connectors";

    const FIELDS: &'static [Field] = &[
        Field::create_only("uuid", Shape::Uuid).in_summary(),
        Field::writable("node_uuid", Shape::Uuid).required().in_summary().unsortable(),
        Field::writable("type", Shape::Text(32)).required().in_summary(),
        Field::writable("connector_id", Shape::Text(255)).required().in_summary(),
        Field::writable("extra", Shape::Object),
        Field::read_only("created_at", Shape::Time),
        Field::read_only("updated_at", Shape::Time),
        Field::read_only("links", Shape::Links),
    ];

    fn field(&self, name: &str, _: &ApiRequest) -> Value {
        match name {
            "uuid" => self.uuid.to_string().into(),
            "node_uuid" => self.node_uuid.to_string().into(),
            "type" => self.kind.clone().into(),
            "connector_id" => self.connector_id.clone().into(),
            "extra" => self.extra.to_masked().into(),
            "created_at" => format_time(self.created_at),
            "updated_at" => format_optional_time(self.updated_at),
            _ => Value::Null,
        }
    }
}

impl VolumeRecord for VolumeConnector {
    const NOUN: &'static str = "connector";

    fn from_values(identity: RecordIdentity, values: &FieldValues) -> Self {
        Self {
            uuid: identity.uuid,
            created_at: identity.created_at,
            updated_at: identity.updated_at,
            node_uuid: values.uuid("node_uuid").unwrap_or_default(),
            kind: values.text("type").unwrap_or_default(),
            connector_id: values.text("connector_id").unwrap_or_default(),
            extra: values.object("extra").into(),
        }
    }
}
