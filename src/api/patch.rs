//! JSON patches (RFC 6902) in Ironic's subset: `add`, `replace` and `remove` on paths of plain names.
//!
//! A patch applies to the fields that a client may send, so its result passes the same validation as a new record.
//! One rule is not Ironic's: writing back the mask `******` of a secret leaves the secret unchanged.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

use super::fault::{Fault, quote};
use super::field::{FieldValues, Purpose, Shape};
use super::request::{ApiRequest, MAX_BODY_BYTES, MAX_BODY_DEPTH, depth};
use super::resource::ApiResource;
use crate::model::Properties;

/// A well-formed patch.
#[derive(Debug, Clone)]
pub(super) struct Patch(Vec<PatchOperation>);

impl Patch {
    /// Parses a client's patch and checks that all its paths are patchable fields.
    pub(super) fn parse<R: ApiResource>(body: Value, request: &ApiRequest) -> Result<Self, Fault> {
        let Value::Array(items) = body else {
            return Err(schema_error(format!("{} is not of type 'array'", quote(&body))));
        };
        let patch = Self(items.into_iter().map(parse_operation).collect::<Result<_, _>>()?);
        for operation in &patch.0 {
            let root = target_field(operation);
            let field = R::FIELDS.iter().find(|field| field.is_patchable() && field.name == root);
            let Some(field) = field else {
                let allowed =
                    R::FIELDS.iter().filter(|field| field.is_patchable() && field.is_in(request.version));
                let allowed: Vec<_> = allowed.map(|field| field.name).collect();
                return Err(Fault::Invalid(format!(
                    "Cannot patch {}. Only the following can be updated: {}",
                    operation.path(),
                    allowed.join(", ")
                )));
            };
            let is_versioned = R::REMOVAL_IS_VERSIONED || !matches!(operation, PatchOperation::Remove(_));
            if is_versioned && !field.is_in(request.version) {
                return Err(Fault::needs_version(field.since));
            }
        }
        Ok(patch)
    }

    /// Applies the patch to a record's fields and validates the result.
    pub(super) fn apply<R: ApiResource>(&self, before: Map<String, Value>) -> Result<FieldValues, Fault> {
        let original = Value::Object(before);
        let mut patched = original.clone();
        json_patch::patch(&mut patched, &self.0).map_err(|error| {
            let failed = self.0.get(error.operation).map(describe).unwrap_or_default();
            Fault::Invalid(format!("Couldn't apply patch '{failed}'. Reason: {}", error.kind))
        })?;
        for field in R::FIELDS.iter().filter(|field| field.shape == Shape::Object) {
            if let (Some(Value::Object(new)), Some(Value::Object(old))) =
                (patched.get_mut(field.name), original.get(field.name))
            {
                let restored = Properties::from(std::mem::take(new)).restore_secrets(&old.clone().into());
                new.clone_from(restored.reveal());
            }
        }
        check_size(&patched)?;
        FieldValues::validate(R::FIELDS, Purpose::Patch, "patch", patched)
    }

    /// The values that the patch writes to a field, in order.
    pub(super) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0
            .iter()
            .filter(move |operation| operation.path().as_str().strip_prefix('/') == Some(name))
            .filter_map(|operation| match operation {
                PatchOperation::Add(add) => Some(&add.value),
                PatchOperation::Replace(replace) => Some(&replace.value),
                _ => None,
            })
    }

    /// Whether the patch changes a field or a part of the field.
    pub(super) fn writes(&self, name: &str) -> bool {
        self.0.iter().any(|operation| target_field(operation) == name)
    }

    /// Whether the patch consists only of the removal of this field.
    pub(super) fn only_removes(&self, name: &str) -> bool {
        matches!(self.0.as_slice(), [PatchOperation::Remove(remove)] if remove.path.as_str().strip_prefix('/') == Some(name))
    }
}

/// The document that a patch applies to: the record's patchable fields as stored.
pub(super) fn document<R: ApiResource>(record: &R) -> Map<String, Value> {
    let stored = serde_json::to_value(record).unwrap_or_default();
    let fields = R::FIELDS.iter().filter(|field| field.is_patchable());
    fields.map(|field| (field.name.to_owned(), stored.get(field.name).cloned().unwrap_or_default())).collect()
}

/// Parses one operation, by Ironic's schema.
fn parse_operation(body: Value) -> Result<PatchOperation, Fault> {
    let Value::Object(mut body) = body else {
        return Err(schema_error(format!("{} is not of type 'object'", quote(&body))));
    };
    let (op, path, value) = (body.remove("op"), body.remove("path"), body.remove("value"));
    if let Some(unknown) = body.keys().next() {
        return Err(schema_error(format!(
            "Additional properties are not allowed ('{unknown}' was unexpected)"
        )));
    }
    let Some(op) = op else { return Err(schema_error("'op' is a required property".into())) };
    let path = match path {
        Some(Value::String(path)) if is_plain(&path) => path,
        Some(Value::String(path)) => {
            return Err(schema_error(format!("{} does not match '^(/[\\\\w-]+)+$'", quote(&path.into()))));
        }
        Some(other) => return Err(schema_error(format!("{} is not of type 'string'", quote(&other)))),
        None => return Err(schema_error("'path' is a required property".into())),
    };
    // A plain path has no escapes, so it is already a JSON pointer.
    let path = PointerBuf::parse(path).map_err(|error| schema_error(error.to_string()))?;
    let value =
        |op: &str| value.ok_or_else(|| schema_error(format!("'value' is a required property of '{op}'")));
    match op.as_str() {
        Some("add") => Ok(PatchOperation::Add(AddOperation { path, value: value("add")? })),
        Some("replace") => Ok(PatchOperation::Replace(ReplaceOperation { path, value: value("replace")? })),
        Some("remove") => Ok(PatchOperation::Remove(RemoveOperation { path })),
        _ => Err(schema_error(format!("{} is not one of ['add', 'replace', 'remove']", quote(&op)))),
    }
}

/// Whether a path consists of names of letters, digits, `_` and `-`, at most [`MAX_BODY_DEPTH`] of them.
fn is_plain(path: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let names = path.strip_prefix('/');
    names.is_some_and(|names| names.split('/').all(is_name) && names.split('/').count() <= MAX_BODY_DEPTH)
}

/// The name of the field that an operation changes.
fn target_field(operation: &PatchOperation) -> &str {
    operation.path().as_str().split('/').nth(1).unwrap_or_default()
}

/// Checks that a series of patches cannot grow a record beyond the limits of a single body.
fn check_size(patched: &Value) -> Result<(), Fault> {
    let size = serde_json::to_vec(patched).map_or(0, |bytes| bytes.len());
    if size > MAX_BODY_BYTES || depth(patched) > MAX_BODY_DEPTH + 1 {
        return Err(Fault::Invalid("The record would become too large or too deeply nested.".into()));
    }
    Ok(())
}

/// Describes an operation without its value, which may be a secret.
fn describe(operation: &PatchOperation) -> String {
    let op = match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        _ => "",
    };
    format!("{op} {}", operation.path())
}

fn schema_error(fault: String) -> Fault {
    Fault::Invalid(format!("Schema error for patch: {fault}"))
}
