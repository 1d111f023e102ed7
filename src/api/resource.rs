//! [`ApiResource`]: the JSON form of a record at the client's microversion.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fault::Fault;
use super::field::{Field, Shape};
use super::request::ApiRequest;
use crate::store::Resource;

/// A kind of record served by the API.
pub(super) trait ApiResource: Resource {
    /// The attributes.
    const FIELDS: &'static [Field];

    /// The path below `/v1/`, also used in links.
    const PATH: &'static str;

    /// The key of the array in list responses.
    const LIST: &'static str = Self::PATH;

    /// Whether the removal of a field requires the field's microversion, as its change does.
    const REMOVAL_IS_VERSIONED: bool = true;

    /// The value of a field of the table, with secrets masked. [`show`] adds the links to the record itself.
    fn field(&self, name: &str, request: &ApiRequest) -> Value;
}

/// The attributes included in a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FieldSelection {
    /// All attributes of the microversion.
    All,
    /// The attributes shown in lists.
    Summary,
    /// The attributes of `?fields=`, and `links`.
    Named(Vec<String>),
}

impl FieldSelection {
    /// Reads the selection of a request for one record.
    pub(super) fn for_record<R: ApiResource>(request: &ApiRequest) -> Result<Self, Fault> {
        let Some(names) = request.query.names("fields") else { return Ok(Self::All) };
        request.require_version(8)?;
        let is_named = |field: &&Field| names.iter().any(|name| name == field.name);
        if let Some(newer) = R::FIELDS.iter().filter(is_named).find(|field| !field.is_in(request.version)) {
            return Err(Fault::needs_version(newer.since));
        }
        let is_selectable_name =
            |name: &String| R::FIELDS.iter().any(|field| field.name == name && is_selectable(field));
        let unknown: Vec<_> =
            names.iter().filter(|name| !is_selectable_name(name)).map(String::as_str).collect();
        if unknown.is_empty() {
            return Ok(Self::Named(names));
        }
        Err(Fault::Invalid(format!("Field(s) \"{}\" are not valid", unknown.join(", "))))
    }

    /// Reads the selection of a list request. Each resource has its own microversion for `?detail=`.
    pub(super) fn for_list<R: ApiResource>(request: &ApiRequest, detail_since: u16) -> Result<Self, Fault> {
        let detail = request.query.flag("detail")?;
        let selection = Self::for_record::<R>(request)?;
        if let Some(detail) = detail
            && request.require_version(detail_since).is_err()
        {
            return Err(Fault::Invalid(format!("Invalid query parameter ?detail={detail} received.")));
        }
        match (selection, detail) {
            (Self::Named(_), Some(true)) => {
                Err(Fault::Invalid("Can't fetch a subset of fields with 'detail' set".into()))
            }
            (Self::All, Some(true)) => Ok(Self::All),
            (Self::All, _) => Ok(Self::Summary),
            (selection, _) => Ok(selection),
        }
    }

    fn has(&self, field: &Field) -> bool {
        match self {
            Self::All => true,
            Self::Summary => field.in_summary || field.name == "links",
            Self::Named(names) => field.name == "links" || names.iter().any(|name| name == field.name),
        }
    }
}

/// Whether `?fields=` may name a field. Links to subresources are not selectable.
fn is_selectable(field: &Field) -> bool {
    field.shape != Shape::Links || field.name == "links"
}

/// Builds the JSON form of a record.
pub(super) fn show<R: ApiResource>(record: &R, request: &ApiRequest, selection: &FieldSelection) -> Value {
    let fields = R::FIELDS.iter().filter(|field| field.is_in(request.version) && selection.has(field));
    let values = fields.map(|field| {
        let value = match field.name {
            "links" => request.links.pair(&format!("{}/{}", R::PATH, record.uuid())),
            name => record.field(name, request),
        };
        (field.name.to_owned(), value)
    });
    Value::Object(values.collect::<Map<_, _>>())
}

/// A time in Ironic's format.
pub(super) fn format_time(moment: Timestamp) -> Value {
    moment.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string().into()
}

/// A time in Ironic's format, or `null`.
pub(super) fn format_optional_time(moment: Option<Timestamp>) -> Value {
    moment.map_or(Value::Null, format_time)
}
