//! [`ApiResource`]: the JSON form of a record at the client's microversion.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fault::Fault;
use super::field::{Field, Shape};
use super::request::ApiRequest;
use super::version::Microversion;
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
        Self::among(R::FIELDS, request)
    }

    /// Reads the selection of a request for one object with these fields.
    pub(super) fn among(fields: &[Field], request: &ApiRequest) -> Result<Self, Fault> {
        let Some(names) = request.query.names("fields") else { return Ok(Self::All) };
        request.require_version(8)?;
        let is_named = |field: &&Field| names.iter().any(|name| name == field.name);
        if let Some(newer) = fields.iter().filter(is_named).find(|field| !field.is_in(request.version)) {
            return Err(Fault::needs_version(newer.since));
        }
        let is_selectable_name =
            |name: &String| fields.iter().any(|field| field.name == name && is_selectable(field));
        let unknown: Vec<_> =
            names.iter().filter(|name| !is_selectable_name(name)).map(String::as_str).collect();
        if unknown.is_empty() {
            return Ok(Self::Named(names));
        }
        Err(Fault::Invalid(format!("Field(s) \"{}\" are not valid", unknown.join(", "))))
    }

    /// Reads the selection of a list request. Each list has its own microversion for `?detail=`.
    pub(super) fn for_list(
        fields: &[Field],
        request: &ApiRequest,
        detail_since: Microversion,
    ) -> Result<Self, Fault> {
        let detail = request.query.flag("detail")?;
        let selection = Self::among(fields, request)?;
        if let Some(detail) = detail
            && request.version < detail_since
        {
            return Err(Fault::Invalid(format!(
                "Invalid query parameter ?detail={detail} received. The minimal required API version should be \
                 {detail_since}"
            )));
        }
        match (selection, detail) {
            (Self::Named(_), Some(true)) => {
                Err(Fault::Invalid("Can not specify ?detail=True and fields in the same request.".into()))
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
    show_fields(R::FIELDS, request, selection, |name| match name {
        "links" => request.links.pair(&format!("{}/{}", R::PATH, record.uuid())),
        name => record.field(name, request),
    })
}

/// Builds the JSON form of an object from the value of each field.
pub(super) fn show_fields(
    fields: &[Field],
    request: &ApiRequest,
    selection: &FieldSelection,
    value: impl Fn(&str) -> Value,
) -> Value {
    let fields = fields.iter().filter(|field| field.is_in(request.version) && selection.has(field));
    Value::Object(fields.map(|field| (field.name.to_owned(), value(field.name))).collect::<Map<_, _>>())
}

/// A time in Ironic's format.
pub(super) fn format_time(moment: Timestamp) -> Value {
    moment.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string().into()
}

/// A time in Ironic's format, or `null`.
pub(super) fn format_optional_time(moment: Option<Timestamp>) -> Value {
    moment.map_or(Value::Null, format_time)
}
