//! [`Field`]: the schema of a resource's attributes.
//!
//! A field's entry holds its microversion, its shape, whether clients may create, patch or sort by it, and whether
//! lists include it. Request validation, `?fields=`, sorting and the OpenAPI document all use these tables.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::fault::{Fault, quote};
use super::version::Microversion;
use crate::model::Mac;

/// One attribute of a resource.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// The first microversion with this field.
    pub(super) since: Microversion,
    /// Whether lists without details include the field.
    pub(super) in_summary: bool,
    access: Access,
    required: bool,
    sortable: bool,
}

/// When clients may write a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    ReadOnly,
    CreateOnly,
    PatchOnly,
    ReadWrite,
}

/// The type of a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A string with a maximum number of characters.
    Text(usize),
    /// A boolean; clients may also send a string.
    Flag,
    /// An integer.
    Integer,
    /// A UUID.
    Uuid,
    /// A MAC address.
    Mac,
    /// A free-form object.
    Object,
    /// A list of strings.
    TextList,
    /// A time as ISO 8601 text; read-only.
    Time,
    /// Links to related resources; read-only.
    Links,
}

/// The operation for which a client sends fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The creation of a record.
    Creation,
    /// The change of a record; the fields are the result of the patch.
    Patch,
}

impl Field {
    /// A field that clients cannot write.
    pub(super) const fn read_only(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            since: Microversion::MIN,
            in_summary: false,
            access: Access::ReadOnly,
            required: false,
            sortable: !matches!(shape, Shape::Object | Shape::TextList | Shape::Links),
        }
    }

    /// A field that clients may set at creation and patch later.
    pub(super) const fn writable(name: &'static str, shape: Shape) -> Self {
        Self { access: Access::ReadWrite, ..Self::read_only(name, shape) }
    }

    /// A field that clients may set at creation only.
    pub(super) const fn create_only(name: &'static str, shape: Shape) -> Self {
        Self { access: Access::CreateOnly, ..Self::read_only(name, shape) }
    }

    /// A field that clients may only patch.
    pub(super) const fn patch_only(name: &'static str, shape: Shape) -> Self {
        Self { access: Access::PatchOnly, ..Self::read_only(name, shape) }
    }

    /// Sets the first microversion with this field.
    pub(super) const fn since(self, minor: u16) -> Self {
        Self { since: Microversion(minor), ..self }
    }

    /// Includes the field in lists.
    pub(super) const fn in_summary(self) -> Self {
        Self { in_summary: true, ..self }
    }

    /// Makes the field mandatory at creation; a patch cannot remove it.
    pub(super) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Excludes the field from sorting, as in Ironic.
    pub(super) const fn unsortable(self) -> Self {
        Self { sortable: false, ..self }
    }

    /// Whether the field exists in a microversion. Fields newer than [`Microversion::MAX`] are in the tables so that
    /// their names are rejected as in Ironic.
    pub(super) fn is_in(&self, version: Microversion) -> bool {
        self.since <= version
    }

    pub(super) fn is_patchable(&self) -> bool {
        matches!(self.access, Access::ReadWrite | Access::PatchOnly)
    }

    pub(super) fn is_sortable(&self) -> bool {
        self.sortable
    }

    /// Whether a client may send the field.
    pub(super) fn is_accepted_for(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Creation => matches!(self.access, Access::ReadWrite | Access::CreateOnly),
            Purpose::Patch => self.is_patchable(),
        }
    }

    pub(super) fn is_required(&self) -> bool {
        self.required
    }
}

/// A client's validated fields: every value is `null` or has its field's shape, in canonical form.
#[derive(Debug)]
pub(super) struct FieldValues(Map<String, Value>);

impl FieldValues {
    /// Validates the fields of a body. `subject` is the resource's name in Ironic's messages.
    pub(super) fn validate(
        fields: &[Field],
        purpose: Purpose,
        subject: &str,
        body: Value,
    ) -> Result<Self, Fault> {
        let fault = |text: String| Fault::Invalid(format!("Schema error for {subject}: {text}"));
        let Value::Object(mut body) = body else {
            return Err(fault(format!("{} is not of type 'object'", quote(&body))));
        };
        let find_field =
            |name: &str| fields.iter().find(|field| field.name == name && field.is_accepted_for(purpose));
        let unknown: Vec<_> =
            body.keys().filter(|name| find_field(name).is_none()).map(|n| format!("'{n}'")).collect();
        match unknown.as_slice() {
            [] => {}
            [one] => {
                return Err(fault(format!("Additional properties are not allowed ({one} was unexpected)")));
            }
            many => {
                let many = many.join(", ");
                return Err(fault(format!("Additional properties are not allowed ({many} were unexpected)")));
            }
        }
        if let Some(missing) = fields.iter().find(|f| f.is_required() && !body.contains_key(f.name)) {
            return Err(fault(format!("'{}' is a required property", missing.name)));
        }
        for (name, value) in &mut body {
            if let Some(field) = find_field(name) {
                field.check(value, &fault)?;
            }
        }
        Ok(Self(body))
    }

    /// Rejects fields that are newer than the negotiated microversion, unless they are `null`.
    pub(super) fn check_version(self, fields: &[Field], version: Microversion) -> Result<Self, Fault> {
        let is_set = |name| match self.0.get(name) {
            None | Some(Value::Null) => false,
            // Ironic's default, which clients may send explicitly.
            Some(value) => name != "conductor_group" || value != "",
        };
        match fields.iter().find(|field| !field.is_in(version) && is_set(field.name)) {
            Some(newer) => Err(Fault::needs_version(newer.since)),
            None => Ok(self),
        }
    }

    /// The values without those of some fields.
    pub(super) fn without(mut self, is_removed: impl Fn(&str, &Value) -> bool) -> Self {
        self.0.retain(|name, value| !is_removed(name, value));
        self
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).and_then(Value::as_str).map(str::to_owned)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name).and_then(Value::as_bool)
    }

    pub(super) fn integer(&self, name: &str) -> Option<i64> {
        self.0.get(name).and_then(Value::as_i64)
    }

    pub(super) fn uuid(&self, name: &str) -> Option<Uuid> {
        self.0.get(name).and_then(Value::as_str).and_then(|text| text.parse().ok())
    }

    pub(super) fn mac(&self, name: &str) -> Option<Mac> {
        self.0.get(name).and_then(Value::as_str).and_then(|text| text.parse().ok())
    }

    /// The strings of a list; none if absent or `null`.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        let items = self.0.get(name).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// An object; empty if absent or `null`.
    pub(super) fn object(&self, name: &str) -> Map<String, Value> {
        self.0.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

impl Field {
    /// Checks a value and converts it to canonical form.
    fn check(&self, value: &mut Value, fault: &impl Fn(String) -> Fault) -> Result<(), Fault> {
        let name = self.name;
        if value.is_null() && !self.required {
            return Ok(());
        }
        let expected = |types: &str| {
            let null = if self.required { "" } else { ", 'null'" };
            Err(fault(format!("{} is not of type {types}{null}", quote(value))))
        };
        let text = value.as_str();
        match self.shape {
            Shape::Text(max_length) => match text {
                None => return expected("'string'"),
                Some(text) if text.chars().count() > max_length => {
                    return Err(fault(format!(
                        "{} is too long: {name} has at most {max_length} characters",
                        quote(value)
                    )));
                }
                Some(_) => {}
            },
            Shape::Flag => match (text, &*value) {
                (_, Value::Bool(_)) => {}
                (Some(text), _) => *value = parse_flag(name, text)?.into(),
                _ => return expected("'string', 'boolean'"),
            },
            Shape::Integer => {
                let Some(number) = value.as_i64().or_else(|| read_integral_float(value)) else {
                    return expected("'integer'");
                };
                *value = number.into();
            }
            Shape::Uuid => {
                let Some(text) = text else { return expected("'string'") };
                *value = parse_uuid(name, text)?.to_string().into();
            }
            Shape::Mac => {
                let Some(text) = text else { return expected("'string'") };
                *value = parse_mac(name, text)?.to_string().into();
            }
            Shape::Object if !value.is_object() => return expected("'object'"),
            Shape::Object => {}
            Shape::TextList => {
                let Some(items) = value.as_array() else { return expected("'array'") };
                if let Some(other) = items.iter().find(|item| !item.is_string()) {
                    return Err(fault(format!("{} is not of type 'string'", quote(other))));
                }
            }
            // Read-only shapes: clients never send them.
            Shape::Time | Shape::Links => return expected("'null'"),
        }
        Ok(())
    }
}

/// Reads an integer written as a float, such as `1.0`. JSON Schema and clients accept this form.
fn read_integral_float(value: &Value) -> Option<i64> {
    let number = value.as_f64()?;
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// Parses a boolean by the rules of oslo.utils `bool_from_string` (strict).
pub(super) fn parse_flag(name: &str, text: &str) -> Result<bool, Fault> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        _ => Err(Fault::Invalid(format!(
            "Invalid {name}: Unrecognized value '{text}', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', \
             'off', 'on', 't', 'true', 'y', 'yes'"
        ))),
    }
}

/// Parses a UUID in any notation.
pub(super) fn parse_uuid(name: &str, text: &str) -> Result<Uuid, Fault> {
    text.parse().map_err(|_| Fault::Invalid(format!("Expected UUID for {name}: {text}")))
}

/// Parses a MAC address in any notation.
pub(super) fn parse_mac(name: &str, text: &str) -> Result<Mac, Fault> {
    text.parse().map_err(|_| Fault::Invalid(format!("Expected valid MAC address for {name}: {text}")))
}
