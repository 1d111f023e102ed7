//! `/openapi.json`: what is served, for programs that read it (OpenAPI 3.1).
//!
//! Made of the very tables that serve it, the routes and the fields, at the last version. Which field, argument or
//! path came with which version is told in its description, since a document has no word for microversions.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::field::{Field, Purpose, Shape};
use super::route::{Described, Gives, Route, Takes};
use super::version::Version;
use crate::model::ProvisionState;
use crate::timeline::State;

/// A MAC address as it is shown.
const MAC: &str = "^([0-9a-f]{2}:){5}[0-9a-f]{2}$";

/// The document of these routes.
pub(super) fn document(routes: &[Route]) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut schemas = Map::from_iter([("Fault".to_owned(), fault()), ("Patch".to_owned(), patch())]);
    for route in routes {
        let method = route.method.as_str().to_ascii_lowercase();
        paths.entry(route.path).or_default().insert(method, operation(route));
        if let Gives::One(record) | Gives::Many(record) | Gives::Created(record) = route.gives {
            schemas.entry(schema_name(record)).or_insert_with(|| shown(record));
        }
        if let Takes::Creation(record) = route.takes {
            schemas.entry(format!("New{}", schema_name(record))).or_insert_with(|| given(record));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "volboot",
            "version": Version::MAX.to_string(),
            "description": "OpenStack Ironic's API, as far as booting from volumes needs it.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
            },
        },
        "security": [{}, {"basic": []}, {"token": []}],
    })
}

fn operation(route: &Route) -> Value {
    let mut description = format!("Takes the role {}.", route.right.role());
    if route.own {
        description += " volboot's own: Ironic has nothing of the kind.";
    }
    if route.since > Version::MIN {
        description += &format!(" Since {}.", route.since);
    }
    let mut parameters = vec![json!({
        "name": "X-OpenStack-Ironic-API-Version",
        "in": "header",
        "description": "1.N or latest; 1.1 if there is none",
        "schema": {"type": "string"},
        "example": Version::MAX.to_string(),
    })];
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    parameters.extend(in_path.map(|name| {
        json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}})
    }));
    parameters.extend(
        route.arguments.iter().map(|name| json!({"name": name, "in": "query", "schema": argument(name)})),
    );
    let mut operation = json!({
        "summary": route.does,
        "description": description,
        "parameters": parameters,
        "responses": responses(route.gives),
    });
    if let Some(schema) = body(route.takes) {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn body(takes: Takes) -> Option<Value> {
    match takes {
        Takes::Nothing => None,
        Takes::Creation(record) => Some(reference(&format!("New{}", schema_name(record)))),
        Takes::Patch => Some(reference("Patch")),
        Takes::Arguments(names) => {
            let known: Map<_, _> = names.iter().map(|name| ((*name).to_owned(), argument(name))).collect();
            Some(json!({"type": "object", "properties": known}))
        }
    }
}

/// What an argument of a query or a verb may be.
fn argument(name: &str) -> Value {
    match name {
        "limit" | "timeout" => json!({"type": "integer", "minimum": 1}),
        "associated" | "detail" | "maintenance" | "persistent" => json!({"type": "boolean"}),
        "state" => json!({"type": "string", "enum": State::ALL.map(State::as_str)}),
        "platform" => json!({"type": "string", "enum": ["pcbios", "efi"]}),
        "sort_dir" => json!({"type": "string", "enum": ["asc", "desc"]}),
        "marker" | "chassis_uuid" | "instance_uuid" | "node_uuid" => {
            json!({"type": "string", "format": "uuid"})
        }
        "address" => json!({"type": "string", "pattern": MAC}),
        "provision_state" => {
            let states = ProvisionState::ALL.map(ProvisionState::as_str);
            json!({"type": "string", "enum": states})
        }
        "clean_steps" => json!({"type": "array"}),
        _ => json!({"type": "string"}),
    }
}

fn responses(gives: Gives) -> Value {
    let content = |schema: Value| json!({"application/json": {"schema": schema}});
    let (status, told) = match gives {
        Gives::Object => {
            ("200", json!({"description": "Shown", "content": content(json!({"type": "object"}))}))
        }
        Gives::Text(kind) => {
            ("200", json!({"description": "Told", "content": {kind: {"schema": {"type": "string"}}}}))
        }
        Gives::One(record) => {
            ("200", json!({"description": "Shown", "content": content(reference(&schema_name(record)))}))
        }
        Gives::Many(record) => {
            let list = json!({"type": "array", "items": reference(&schema_name(record))});
            let page = json!({
                "type": "object",
                "properties": {record.list: list, "next": {"type": "string"}},
                "required": [record.list],
                "additionalProperties": false,
            });
            ("200", json!({"description": "A page", "content": content(page)}))
        }
        Gives::Created(record) => {
            let schema = content(reference(&schema_name(record)));
            let location = json!({"Location": {"schema": {"type": "string"}}});
            ("201", json!({"description": "Created", "content": schema, "headers": location}))
        }
        Gives::Made => {
            let location = json!({"Location": {"schema": {"type": "string"}}});
            let schema = content(json!({"type": "object"}));
            ("201", json!({"description": "Created", "content": schema, "headers": location}))
        }
        Gives::Accepted => ("202", json!({"description": "Accepted"})),
        Gives::Done => ("204", json!({"description": "Done"})),
    };
    json!({status: told, "default": {"description": "Not done", "content": content(reference("Fault"))}})
}

/// A record as it is shown. Which fields there are depends on version and choice, so none is required.
fn shown(record: Described) -> Value {
    let fields = record.fields.iter().filter(|field| field.is_in(Version::MAX));
    let properties: Map<_, _> = fields.map(|field| (field.name.to_owned(), value(field))).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// What creates a record.
fn given(record: Described) -> Value {
    let fields = || record.fields.iter().filter(|f| f.is_in(Version::MAX) && f.is_for(Purpose::Creation));
    let properties: Map<_, _> = fields().map(|field| (field.name.to_owned(), value(field))).collect();
    let required: Vec<_> = fields().filter(|field| field.is_required()).map(|field| field.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn value(field: &Field) -> Value {
    let (kind, more) = match field.shape {
        Shape::Text(longest) => ("string", json!({"maxLength": longest})),
        Shape::Flag => ("boolean", json!({})),
        Shape::Integer => ("integer", json!({})),
        Shape::Uuid => ("string", json!({"format": "uuid"})),
        Shape::Mac => ("string", json!({"pattern": MAC})),
        Shape::Object => ("object", json!({})),
        Shape::Time => ("string", json!({"format": "date-time"})),
        Shape::Links => return json!({"type": "array", "description": "Where related things are"}),
    };
    let mut schema = more;
    schema["type"] = if field.is_required() { kind.into() } else { json!([kind, "null"]) };
    if field.since > Version::MIN {
        schema["description"] = format!("Since {}.", field.since).into();
    }
    schema
}

fn patch() -> Value {
    json!({
        "type": "array",
        "description": "A JSON patch (RFC 6902) of plain paths",
        "items": {
            "type": "object",
            "properties": {
                "op": {"type": "string", "enum": ["add", "remove", "replace"]},
                "path": {"type": "string", "pattern": "^(/[\\w-]+)+$"},
                "value": {},
            },
            "required": ["op", "path"],
            "additionalProperties": false,
        },
    })
}

fn fault() -> Value {
    json!({
        "type": "object",
        "properties": {
            "error_message": {
                "type": "string",
                "description": "JSON again: an object of faultcode, faultstring and debuginfo",
                "contentMediaType": "application/json",
            },
        },
        "required": ["error_message"],
        "additionalProperties": false,
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// `VolumeTarget` of `volume target`.
fn schema_name(record: Described) -> String {
    let words = record.name.split(' ');
    words
        .flat_map(|word| word[..1].to_uppercase().chars().chain(word[1..].chars()).collect::<Vec<_>>())
        .collect()
}
