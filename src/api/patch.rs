//! JSON patches (RFC 6902), as Ironic takes them: `add`, `replace` and `remove`, on paths of plain names.
//!
//! A patch applies to what a client would send to create the record, so its result is checked by the same rules.
//! One thing is not in Ironic: a client that read a secret as `******` and writes it back has not changed it.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

use super::call::{Call, DEEPEST_BODY, LONGEST_BODY, depth};
use super::fault::{Fault, quoted};
use super::field::{Given, Purpose, Shape};
use super::shown::Shown;
use crate::model::Properties;

/// A patch, well formed.
#[derive(Debug, Clone)]
pub(super) struct Patch(Vec<PatchOperation>);

impl Patch {
    /// Takes apart what a client sent, and sees to it that it touches only what may be patched.
    pub(super) fn read<R: Shown>(sent: Value, call: &Call) -> Result<Self, Fault> {
        let Value::Array(items) = sent else {
            return Err(malformed(format!("{} is not of type 'array'", quoted(&sent))));
        };
        let patch = Self(items.into_iter().map(operation).collect::<Result<_, _>>()?);
        for operation in &patch.0 {
            let root = root(operation);
            let field = R::FIELDS.iter().find(|field| field.is_patched() && field.name == root);
            let Some(field) = field else {
                let allowed =
                    R::FIELDS.iter().filter(|field| field.is_patched() && field.is_in(call.version));
                let allowed: Vec<_> = allowed.map(|field| field.name).collect();
                return Err(Fault::Invalid(format!(
                    "Cannot patch {}. Only the following can be updated: {}",
                    operation.path(),
                    allowed.join(", ")
                )));
            };
            if !field.is_in(call.version) && !matches!(operation, PatchOperation::Remove(_)) {
                return Err(Fault::too_new());
            }
        }
        Ok(patch)
    }

    /// What a record would be after the patch, checked like what a client sends to create one.
    pub(super) fn applied<R: Shown>(&self, before: Map<String, Value>) -> Result<Given, Fault> {
        let original = Value::Object(before);
        let mut patched = original.clone();
        json_patch::patch(&mut patched, &self.0).map_err(|error| {
            let failed = self.0.get(error.operation).map(described).unwrap_or_default();
            Fault::Invalid(format!("Couldn't apply patch '{failed}'. Reason: {}", error.kind))
        })?;
        for field in R::FIELDS.iter().filter(|field| field.shape == Shape::Object) {
            if let (Some(Value::Object(new)), Some(Value::Object(old))) =
                (patched.get_mut(field.name), original.get(field.name))
            {
                let kept = Properties::from(std::mem::take(new)).keeping_secrets_of(&old.clone().into());
                new.clone_from(kept.reveal());
            }
        }
        bounded(&patched)?;
        Given::checked(R::FIELDS, Purpose::Patch, "patch", patched)
    }

    /// The values that the patch gives to a field, in order.
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

    /// Whether the patch is nothing but the removal of one field.
    pub(super) fn only_removes(&self, name: &str) -> bool {
        matches!(self.0.as_slice(), [PatchOperation::Remove(remove)] if remove.path.as_str().strip_prefix('/') == Some(name))
    }
}

/// What a patch of a record applies to: its patchable fields, as they are stored.
pub(super) fn document<R: Shown>(record: &R) -> Map<String, Value> {
    let stored = serde_json::to_value(record).unwrap_or_default();
    let fields = R::FIELDS.iter().filter(|field| field.is_patched());
    fields.map(|field| (field.name.to_owned(), stored.get(field.name).cloned().unwrap_or_default())).collect()
}

/// One operation (Ironic's schema of them).
fn operation(sent: Value) -> Result<PatchOperation, Fault> {
    let Value::Object(mut sent) = sent else {
        return Err(malformed(format!("{} is not of type 'object'", quoted(&sent))));
    };
    let (op, path, value) = (sent.remove("op"), sent.remove("path"), sent.remove("value"));
    if let Some(unknown) = sent.keys().next() {
        return Err(malformed(format!("Additional properties are not allowed ('{unknown}' was unexpected)")));
    }
    let Some(op) = op else { return Err(malformed("'op' is a required property".into())) };
    let path = match path {
        Some(Value::String(path)) if is_plain(&path) => path,
        Some(Value::String(path)) => {
            return Err(malformed(format!("{} does not match '^(/[\\\\w-]+)+$'", quoted(&path.into()))));
        }
        Some(other) => return Err(malformed(format!("{} is not of type 'string'", quoted(&other)))),
        None => return Err(malformed("'path' is a required property".into())),
    };
    // A plain path has no escapes, so it is a pointer as it stands.
    let path = PointerBuf::parse(path).map_err(|error| malformed(error.to_string()))?;
    let value =
        |op: &str| value.ok_or_else(|| malformed(format!("'value' is a required property of '{op}'")));
    match op.as_str() {
        Some("add") => Ok(PatchOperation::Add(AddOperation { path, value: value("add")? })),
        Some("replace") => Ok(PatchOperation::Replace(ReplaceOperation { path, value: value("replace")? })),
        Some("remove") => Ok(PatchOperation::Remove(RemoveOperation { path })),
        _ => Err(malformed(format!("{} is not one of ['add', 'replace', 'remove']", quoted(&op)))),
    }
}

/// Whether a path is made of names of letters, digits, `_` and `-`, no more of them than a record has levels.
fn is_plain(path: &str) -> bool {
    let is_name =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    let names = path.strip_prefix('/');
    names.is_some_and(|names| names.split('/').all(is_name) && names.split('/').count() <= DEEPEST_BODY)
}

/// The field that an operation touches.
fn root(operation: &PatchOperation) -> &str {
    operation.path().as_str().split('/').nth(1).unwrap_or_default()
}

/// Patches may not make of a record, one by one, what no body could have made of it at once.
fn bounded(patched: &Value) -> Result<(), Fault> {
    let size = serde_json::to_vec(patched).map_or(0, |bytes| bytes.len());
    if size > LONGEST_BODY || depth(patched) > DEEPEST_BODY + 1 {
        return Err(Fault::Invalid("The record would become too large or too deeply nested.".into()));
    }
    Ok(())
}

/// An operation without its value, which may be a secret.
fn described(operation: &PatchOperation) -> String {
    let op = match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        _ => "",
    };
    format!("{op} {}", operation.path())
}

fn malformed(fault: String) -> Fault {
    Fault::Invalid(format!("Schema error for patch: {fault}"))
}
