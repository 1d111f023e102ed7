//! The stored form of records: JSON objects, in which the fields of newer versions survive.
//!
//! After a downgrade, records may hold fields that this version does not know. A read ignores them, so the machine
//! still boots. An update writes unknown fields back unchanged: the next upgrade finds them. A field that an older
//! version must not ignore needs a schema step ([`super::schema`]).

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::{Map, Value};

use super::contract::{Record, Revision, StoreError};

/// A record with the revision of its last write.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<R> {
    /// The record.
    pub value: R,
    /// The revision of the write that put it.
    pub revision: Revision,
}

/// Decodes a record; ignores unknown fields.
pub(super) fn decode<R: DeserializeOwned>(record: &Record) -> Result<Versioned<R>, StoreError> {
    let value = serde_json::from_slice(&record.value).map_err(|error| damaged(record, &error))?;
    Ok(Versioned { value, revision: record.revision })
}

/// Encodes a new record.
pub(super) fn encode<R: Serialize>(value: &R) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Damaged(error.to_string()))
}

/// Encodes the next value of a record; keeps the unknown fields of `old`, the record as stored.
pub(super) fn encode_update<R>(old: &Record, new: &R) -> Result<Vec<u8>, StoreError>
where
    R: Serialize + DeserializeOwned,
{
    let mut with_unknown = BTreeSet::new();
    let mut json = serde_json::Deserializer::from_slice(&old.value);
    let known: R = serde_ignored::deserialize(&mut json, |path| {
        with_unknown.extend(top_level_field(&path).map(str::to_owned));
    })
    .map_err(|error| damaged(old, &error))?;
    if with_unknown.is_empty() {
        return encode(new);
    }
    let mut stored: Map<String, Value> =
        serde_json::from_slice(&old.value).map_err(|error| damaged(old, &error))?;
    let before = serde_json::to_value(known).map_err(|error| damaged(old, &error))?;
    let mut after = serde_json::to_value(new).map_err(|error| damaged(old, &error))?;
    for field in with_unknown {
        // An unknown field is in neither value. A known field keeps its unknown part until the known part changes.
        if before.get(&field) == after.get(&field)
            && let Some(value) = stored.remove(&field)
        {
            after[field] = value;
        }
    }
    encode(&after)
}

/// The record's own field on the path to an ignored one.
fn top_level_field<'a>(path: &'a Path<'_>) -> Option<&'a str> {
    match path {
        Path::Root => None,
        Path::Map { parent: Path::Root, key } => Some(key),
        Path::Map { parent, .. }
        | Path::Seq { parent, .. }
        | Path::Some { parent }
        | Path::NewtypeStruct { parent }
        | Path::NewtypeVariant { parent } => top_level_field(parent),
    }
}

fn damaged(record: &Record, error: &serde_json::Error) -> StoreError {
    StoreError::Damaged(format!("{}: {error}", record.key))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::model::{Attachment, ConnectorProperties};

    fn connector(host: &str) -> ConnectorProperties {
        ConnectorProperties {
            initiator: "iqn.2026-01.x:y".into(),
            host: host.into(),
            ip: None,
            multipath: false,
            mountpoint: None,
        }
    }

    fn attachment() -> Attachment {
        let attachment = Attachment::new(Uuid::nil(), "v", Uuid::nil(), Vec::new(), Timestamp::UNIX_EPOCH);
        Attachment { id: Uuid::nil(), connector: Some(connector("one")), ..attachment }
    }

    /// The record as a newer version stores it: with a field of its own, and another one within `connector`.
    fn of_newer_version() -> Record {
        let mut value = serde_json::to_value(attachment()).expect("JSON");
        value["backend"] = json!({"name": "b", "shards": [1, null]});
        value["connector"]["nqn"] = "nqn.2014-08.org.nvmexpress:x".into();
        Record { key: "k".into(), revision: 7, value: value.to_string().into() }
    }

    fn update(old: &Record, change: impl FnOnce(&mut Attachment)) -> Value {
        let mut new = decode::<Attachment>(old).expect("decodes").value;
        change(&mut new);
        let bytes = encode_update(old, &new).expect("encodes");
        assert_eq!(
            decode::<Attachment>(&Record { value: bytes.clone(), ..old.clone() }).expect("decodes").value,
            new
        );
        serde_json::from_slice(&bytes).expect("JSON")
    }

    #[test]
    fn a_read_ignores_unknown_fields() {
        let read = decode(&of_newer_version()).expect("decodes");
        assert_eq!(read, Versioned { value: attachment(), revision: 7 });
    }

    #[test]
    fn an_update_keeps_unknown_fields() {
        let old = of_newer_version();
        let mut expected: Value = serde_json::from_slice(&old.value).expect("JSON");
        expected["pending_export"] = true.into();
        assert_eq!(update(&old, |attachment| attachment.pending_export = true), expected);
    }

    #[test]
    fn a_changed_field_loses_its_unknown_part() {
        let new = update(&of_newer_version(), |attachment| attachment.connector = Some(connector("two")));
        assert_eq!(new["connector"], serde_json::to_value(connector("two")).expect("JSON"));
        assert_eq!(new["backend"]["name"], "b");
    }

    #[test]
    fn an_earlier_name_of_a_field_is_not_unknown() {
        let mut value = serde_json::to_value(attachment()).expect("JSON");
        let fields = value.as_object_mut().expect("an object");
        fields.remove("pending_export");
        fields.insert("unanswered".into(), true.into());
        let old = Record { value: value.to_string().into(), ..of_newer_version() };
        let new = update(&old, |_| ());
        assert_eq!((new.get("unanswered"), &new["pending_export"]), (None, &Value::Bool(true)));
    }
}
