//! [`Field`]: what each attribute of a resource is, said once.
//!
//! Everything the API knows of an attribute by name is read from these tables: from which version it is shown,
//! whether it can be given at creation, patched, or sorted by, and what its value must look like. So are the
//! checks of what clients send, the choice of `?fields=`, and the descriptions in the OpenAPI document.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::fault::{Fault, quoted};
use super::version::Version;
use crate::model::Mac;

/// One attribute of a resource.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    /// The version it came with.
    pub(super) since: Version,
    /// Whether a list shows it that was not asked for details.
    pub(super) listed: bool,
    written: Written,
    required: bool,
    sortable: bool,
}

/// When clients write a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Never,
    AtCreation,
    Anytime,
}

/// What the value of a field may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A text of at most so many characters.
    Text(usize),
    /// `true` or `false`; clients also write it as a text.
    Flag,
    /// A whole number.
    Integer,
    /// A UUID.
    Uuid,
    /// A MAC address.
    Mac,
    /// A free-form object.
    Object,
    /// A moment, as ISO 8601 text; never given by clients.
    Time,
    /// Where related things are; never given by clients.
    Links,
}

/// What a client sends an object of fields for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To create a record.
    Creation,
    /// To change one: what it would be after the patch.
    Patch,
}

impl Field {
    /// A field that is only ever shown.
    pub(super) const fn shown(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            since: Version::MIN,
            listed: false,
            written: Written::Never,
            required: false,
            sortable: !matches!(shape, Shape::Object | Shape::Links),
        }
    }

    /// A field that clients give at creation and change by patches.
    pub(super) const fn given(name: &'static str, shape: Shape) -> Self {
        Self { written: Written::Anytime, ..Self::shown(name, shape) }
    }

    /// A field that clients may give at creation, and that stays then.
    pub(super) const fn fixed(name: &'static str, shape: Shape) -> Self {
        Self { written: Written::AtCreation, ..Self::shown(name, shape) }
    }

    /// It came with this version.
    pub(super) const fn since(self, minor: u16) -> Self {
        Self { since: Version(minor), ..self }
    }

    /// Lists show it.
    pub(super) const fn listed(self) -> Self {
        Self { listed: true, ..self }
    }

    /// It must be given, and stay.
    pub(super) const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    /// Ironic cannot sort by it.
    pub(super) const fn unsorted(self) -> Self {
        Self { sortable: false, ..self }
    }

    /// Whether it is there in a version. Those that came after the last version served never are: they are in the
    /// tables so that their names are refused as Ironic refuses them.
    pub(super) fn is_in(&self, version: Version) -> bool {
        self.since <= version
    }

    pub(super) fn is_patched(&self) -> bool {
        self.written == Written::Anytime
    }

    pub(super) fn is_sortable(&self) -> bool {
        self.sortable
    }

    /// Whether a client may send it.
    pub(super) fn is_for(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Creation => self.written != Written::Never,
            Purpose::Patch => self.is_patched(),
        }
    }

    pub(super) fn is_required(&self) -> bool {
        self.required
    }
}

/// What a client gave, checked: every value is `null` or of its field's shape, in its one spelling.
#[derive(Debug)]
pub(super) struct Given(Map<String, Value>);

impl Given {
    /// Checks what was sent for a resource. `subject` is what Ironic's messages call it.
    pub(super) fn checked(
        fields: &[Field],
        purpose: Purpose,
        subject: &str,
        sent: Value,
    ) -> Result<Self, Fault> {
        let fault = |text: String| Fault::Invalid(format!("Schema error for {subject}: {text}"));
        let Value::Object(mut sent) = sent else {
            return Err(fault(format!("{} is not of type 'object'", quoted(&sent))));
        };
        let known = |name: &str| fields.iter().find(|field| field.name == name && field.is_for(purpose));
        let unknown: Vec<_> =
            sent.keys().filter(|name| known(name).is_none()).map(|n| format!("'{n}'")).collect();
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
        if let Some(missing) = fields.iter().find(|f| f.is_required() && !sent.contains_key(f.name)) {
            return Err(fault(format!("'{}' is a required property", missing.name)));
        }
        for (name, value) in &mut sent {
            if let Some(field) = known(name) {
                field.check(value, &fault)?;
            }
        }
        Ok(Self(sent))
    }

    /// Refuses fields that came with a later version than the one in use, unless they are `null`.
    pub(super) fn in_version(self, fields: &[Field], version: Version) -> Result<Self, Fault> {
        let given = |name| match self.0.get(name) {
            None | Some(Value::Null) => false,
            // Ironic's own value for none, which clients may write out.
            Some(value) => name != "conductor_group" || value != "",
        };
        let newer = fields.iter().any(|field| !field.is_in(version) && given(field.name));
        if newer { Err(Fault::too_new()) } else { Ok(self) }
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

    /// An object; left out or `null`, it is empty.
    pub(super) fn object(&self, name: &str) -> Map<String, Value> {
        self.0.get(name).and_then(Value::as_object).cloned().unwrap_or_default()
    }
}

impl Field {
    /// Checks a value and brings it into its one spelling.
    fn check(&self, value: &mut Value, fault: &impl Fn(String) -> Fault) -> Result<(), Fault> {
        let name = self.name;
        if value.is_null() && !self.required {
            return Ok(());
        }
        let expected = |types: &str| {
            let null = if self.required { "" } else { ", 'null'" };
            Err(fault(format!("{} is not of type {types}{null}", quoted(value))))
        };
        let text = value.as_str();
        match self.shape {
            Shape::Text(longest) => match text {
                None => return expected("'string'"),
                Some(text) if text.chars().count() > longest => {
                    return Err(fault(format!(
                        "{} is too long: {name} has at most {longest} characters",
                        quoted(value)
                    )));
                }
                Some(_) => {}
            },
            Shape::Flag => match (text, &*value) {
                (_, Value::Bool(_)) => {}
                (Some(text), _) => *value = flag(name, text)?.into(),
                _ => return expected("'string', 'boolean'"),
            },
            Shape::Integer => {
                let Some(number) = value.as_i64().or_else(|| whole(value)) else {
                    return expected("'integer'");
                };
                *value = number.into();
            }
            Shape::Uuid => {
                let Some(text) = text else { return expected("'string'") };
                *value = uuid(name, text)?.to_string().into();
            }
            Shape::Mac => {
                let Some(text) = text else { return expected("'string'") };
                *value = mac(name, text)?.to_string().into();
            }
            Shape::Object if !value.is_object() => return expected("'object'"),
            Shape::Object => {}
            // No table gives these to clients.
            Shape::Time | Shape::Links => return expected("'null'"),
        }
        Ok(())
    }
}

/// A whole number in the clothes of a fraction: JSON Schema takes `0.0` for an integer, and so do clients.
fn whole(value: &Value) -> Option<i64> {
    let number = value.as_f64()?;
    (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
}

/// A truth value as OpenStack's clients spell it (oslo.utils `bool_from_string`, strict).
pub(super) fn flag(name: &str, text: &str) -> Result<bool, Fault> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "y" | "yes" => Ok(true),
        "0" | "f" | "false" | "off" | "n" | "no" => Ok(false),
        _ => Err(Fault::Invalid(format!(
            "Invalid {name}: Unrecognized value '{text}', acceptable values are: '0', '1', 'f', 'false', 'n', 'no', \
             'off', 'on', 't', 'true', 'y', 'yes'"
        ))),
    }
}

/// A UUID in any of its spellings.
pub(super) fn uuid(name: &str, text: &str) -> Result<Uuid, Fault> {
    text.parse().map_err(|_| Fault::Invalid(format!("Expected UUID for {name}: {text}")))
}

/// A MAC address in any of its spellings.
pub(super) fn mac(name: &str, text: &str) -> Result<Mac, Fault> {
    text.parse().map_err(|_| Fault::Invalid(format!("Expected valid MAC address for {name}: {text}")))
}
