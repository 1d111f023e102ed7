//! [`Shown`]: how a record becomes the JSON that a client of a certain version sees.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::call::Call;
use super::fault::Fault;
use super::field::{Field, Shape};
use crate::store::Resource;

/// A kind of record that clients see.
pub(super) trait Shown: Resource {
    /// Its attributes.
    const FIELDS: &'static [Field];

    /// Where it is found, behind `/v1/`; also what its links are made of.
    const PATH: &'static str;

    /// The key of its lists.
    const LIST: &'static str = Self::PATH;

    /// What stands under a name of the table, with nothing secret in it. Links to the record itself are made by
    /// [`show`].
    fn field(&self, name: &str, call: &Call) -> Value;
}

/// Which attributes an answer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    /// All that there are in the version.
    All,
    /// What lists show.
    Listed,
    /// Those asked for by `?fields=`, and `links`.
    Named(Vec<String>),
}

impl Choice {
    /// What was asked for of one record.
    pub(super) fn of_one<R: Shown>(call: &Call) -> Result<Self, Fault> {
        let Some(names) = call.query.names("fields") else { return Ok(Self::All) };
        call.needs(8)?;
        if R::FIELDS.iter().any(|field| !field.is_in(call.version) && names.iter().any(|n| n == field.name)) {
            return Err(Fault::too_new());
        }
        let known = |name: &String| R::FIELDS.iter().any(|field| field.name == name && is_selectable(field));
        let unknown: Vec<_> = names.iter().filter(|name| !known(name)).map(String::as_str).collect();
        if unknown.is_empty() {
            return Ok(Self::Named(names));
        }
        Err(Fault::Invalid(format!("Field(s) \"{}\" are not valid", unknown.join(", "))))
    }

    /// What was asked for of a list. `?detail=` came with a version of its own for each resource.
    pub(super) fn of_list<R: Shown>(call: &Call, detail_since: u16) -> Result<Self, Fault> {
        let detail = call.query.flag("detail")?;
        let choice = Self::of_one::<R>(call)?;
        if let Some(detail) = detail
            && call.needs(detail_since).is_err()
        {
            return Err(Fault::Invalid(format!("Invalid query parameter ?detail={detail} received.")));
        }
        match (choice, detail) {
            (Self::Named(_), Some(true)) => {
                Err(Fault::Invalid("Can't fetch a subset of fields with 'detail' set".into()))
            }
            (Self::All, Some(true)) => Ok(Self::All),
            (Self::All, _) => Ok(Self::Listed),
            (choice, _) => Ok(choice),
        }
    }

    fn has(&self, field: &Field) -> bool {
        match self {
            Self::All => true,
            Self::Listed => field.listed || field.name == "links",
            Self::Named(names) => field.name == "links" || names.iter().any(|name| name == field.name),
        }
    }
}

/// Links to what belongs to a record are not among its fields.
fn is_selectable(field: &Field) -> bool {
    field.shape != Shape::Links || field.name == "links"
}

/// A record as the client sees it.
pub(super) fn show<R: Shown>(record: &R, call: &Call, choice: &Choice) -> Value {
    let fields = R::FIELDS.iter().filter(|field| field.is_in(call.version) && choice.has(field));
    let shown = fields.map(|field| {
        let value = match field.name {
            "links" => call.links.pair(&format!("{}/{}", R::PATH, record.uuid())),
            name => record.field(name, call),
        };
        (field.name.to_owned(), value)
    });
    Value::Object(shown.collect::<Map<_, _>>())
}

/// A moment in Ironic's spelling.
pub(super) fn time(moment: Timestamp) -> Value {
    moment.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string().into()
}

/// The same, of a moment that perhaps never was.
pub(super) fn maybe_time(moment: Option<Timestamp>) -> Value {
    moment.map_or(Value::Null, time)
}
