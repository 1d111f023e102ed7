//! `/openapi.json`: the OpenAPI 3.1 document of the API.
//!
//! Built from the tables of routes and fields that also serve requests, at the last microversion. OpenAPI cannot
//! express microversions, so the descriptions state the first version of each field and path.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::field::{Field, Purpose, Shape};
use super::middleware::PUBLIC_PATHS;
use super::route::{RecordSchema, RequestBody, Route, SuccessResponse};
use super::version::Microversion;
use crate::model::{AllocationState, ProvisionState};
use crate::timeline::BootState;

/// The pattern of a MAC address in responses.
const MAC: &str = "^([0-9a-f]{2}:){5}[0-9a-f]{2}$";

/// Builds the document from the routes.
pub(super) fn build_document(routes: &[Route]) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut schemas =
        Map::from_iter([("Fault".to_owned(), fault_schema()), ("Patch".to_owned(), patch_schema())]);
    for route in routes.iter().filter(|route| route.since <= Microversion::MAX) {
        let method = route.method.as_str().to_ascii_lowercase();
        paths.entry(route.path).or_default().insert(method, describe_operation(route));
        if let SuccessResponse::Record(record)
        | SuccessResponse::Page(record)
        | SuccessResponse::CreatedRecord(record) = route.response
        {
            schemas.entry(schema_name(record)).or_insert_with(|| record_schema(record));
        }
        if let RequestBody::Creation(record) = route.body {
            schemas.entry(format!("New{}", schema_name(record))).or_insert_with(|| creation_schema(record));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "volboot",
            "version": Microversion::MAX.to_string(),
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

fn describe_operation(route: &Route) -> Value {
    let mut description = format!("Requires the role {}.", route.role.as_str());
    if route.extension {
        description += " A volboot extension, absent from Ironic.";
    }
    if route.since > Microversion::MIN {
        description += &format!(" Since {}.", route.since);
    }
    let mut parameters = vec![json!({
        "name": "X-OpenStack-Ironic-API-Version",
        "in": "header",
        "description": "1.N or latest; 1.1 if absent",
        "schema": {"type": "string"},
        "example": Microversion::MAX.to_string(),
    })];
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    parameters.extend(in_path.map(|name| {
        json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}})
    }));
    parameters.extend(
        route
            .query
            .iter()
            .map(|name| json!({"name": name, "in": "query", "schema": query_schema(route, name)})),
    );
    let mut operation = json!({
        "summary": route.summary,
        "description": description,
        "parameters": parameters,
        "responses": describe_responses(route.response),
    });
    if !PUBLIC_PATHS.contains(&route.path) {
        operation["responses"]["429"] = describe_login_limit();
    }
    if let Some(schema) = request_schema(route.body) {
        operation["requestBody"] = json!({"content": {"application/json": {"schema": schema}}});
    }
    operation
}

fn request_schema(body: RequestBody) -> Option<Value> {
    match body {
        RequestBody::None => None,
        RequestBody::Creation(record) => Some(reference(&format!("New{}", schema_name(record)))),
        RequestBody::Patch => Some(reference("Patch")),
        RequestBody::Arguments(names) => {
            let properties: Map<_, _> =
                names.iter().map(|name| ((*name).to_owned(), argument_schema(name))).collect();
            Some(json!({"type": "object", "properties": properties}))
        }
    }
}

/// The schema of a query argument.
fn query_schema(route: &Route, name: &str) -> Value {
    let is_allocation =
        matches!(route.response, SuccessResponse::Page(record) if record.list == "allocations");
    match name {
        "state" if is_allocation => {
            json!({"type": "string", "enum": AllocationState::ALL.map(AllocationState::as_str)})
        }
        _ => argument_schema(name),
    }
}

/// The schema of a query or body argument.
fn argument_schema(name: &str) -> Value {
    match name {
        "limit" | "timeout" => json!({"type": "integer", "minimum": 1}),
        "associated" | "detail" | "maintenance" | "persistent" | "reset_interfaces" => {
            json!({"type": "boolean"})
        }
        "state" => json!({"type": "string", "enum": BootState::ALL.map(BootState::as_str)}),
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
        "traits" => json!({"type": "array", "items": {"type": "string"}}),
        _ => json!({"type": "string"}),
    }
}

fn describe_responses(response: SuccessResponse) -> Value {
    let content = |schema: Value| json!({"application/json": {"schema": schema}});
    let (status, success) = match response {
        SuccessResponse::Object => {
            ("200", json!({"description": "OK", "content": content(json!({"type": "object"}))}))
        }
        SuccessResponse::Text(kind) => {
            ("200", json!({"description": "Text", "content": {kind: {"schema": {"type": "string"}}}}))
        }
        SuccessResponse::Record(record) => {
            ("200", json!({"description": "OK", "content": content(reference(&schema_name(record)))}))
        }
        SuccessResponse::Page(record) => {
            let list = json!({"type": "array", "items": reference(&schema_name(record))});
            let page = json!({
                "type": "object",
                "properties": {record.list: list, "next": {"type": "string"}},
                "required": [record.list],
                "additionalProperties": false,
            });
            ("200", json!({"description": "A page of records", "content": content(page)}))
        }
        SuccessResponse::CreatedRecord(record) => {
            let schema = content(reference(&schema_name(record)));
            let location = json!({"Location": {"schema": {"type": "string"}}});
            ("201", json!({"description": "Created", "content": schema, "headers": location}))
        }
        SuccessResponse::CreatedObject => {
            let location = json!({"Location": {"schema": {"type": "string"}}});
            let schema = content(json!({"type": "object"}));
            ("201", json!({"description": "Created", "content": schema, "headers": location}))
        }
        SuccessResponse::Accepted => ("202", json!({"description": "Accepted"})),
        SuccessResponse::NoContent => ("204", json!({"description": "No content"})),
    };
    json!({status: success, "default": {"description": "Error", "content": content(reference("Fault"))}})
}

/// The response to a client that has sent too many wrong passwords, with every path that requires a log-in.
fn describe_login_limit() -> Value {
    json!({
        "description": "Too many log-ins with wrong passwords from the client's address (auth http_basic)",
        "headers": {
            "Retry-After": {
                "description": "Seconds until the next password is checked",
                "schema": {"type": "integer"},
            },
        },
        "content": {"application/json": {"schema": reference("Fault")}},
    })
}

/// The schema of a record in responses. The fields depend on microversion and `?fields=`, so none is required.
fn record_schema(record: RecordSchema) -> Value {
    let fields = record.fields.iter().filter(|field| field.is_in(Microversion::MAX));
    let properties: Map<_, _> = fields.map(|field| (field.name.to_owned(), field_schema(field))).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// The schema of the body that creates a record.
fn creation_schema(record: RecordSchema) -> Value {
    let fields = || {
        record.fields.iter().filter(|f| f.is_in(Microversion::MAX) && f.is_accepted_for(Purpose::Creation))
    };
    let properties: Map<_, _> = fields().map(|field| (field.name.to_owned(), field_schema(field))).collect();
    let required: Vec<_> = fields().filter(|field| field.is_required()).map(|field| field.name).collect();
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn field_schema(field: &Field) -> Value {
    let (kind, more) = match field.shape {
        Shape::Text(max_length) => ("string", json!({"maxLength": max_length})),
        Shape::Flag => ("boolean", json!({})),
        Shape::Integer => ("integer", json!({})),
        Shape::Uuid => ("string", json!({"format": "uuid"})),
        Shape::Mac => ("string", json!({"pattern": MAC})),
        Shape::Object => ("object", json!({})),
        Shape::TextList => ("array", json!({"items": {"type": "string"}})),
        Shape::Time => ("string", json!({"format": "date-time"})),
        Shape::Links => return json!({"type": "array", "description": "Links to related resources"}),
    };
    let mut schema = more;
    schema["type"] = if field.is_required() { kind.into() } else { json!([kind, "null"]) };
    if field.since > Microversion::MIN {
        schema["description"] = format!("Since {}.", field.since).into();
    }
    schema
}

fn patch_schema() -> Value {
    json!({
        "type": "array",
        "description": "A JSON patch (RFC 6902) with plain paths",
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

fn fault_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "error_message": {
                "type": "string",
                "description": "A string containing a JSON object of faultcode, faultstring and debuginfo",
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

/// Converts a kind's name to a schema name: `volume target` to `VolumeTarget`.
fn schema_name(record: RecordSchema) -> String {
    let words = record.name.split(' ');
    words
        .flat_map(|word| word[..1].to_uppercase().chars().chain(word[1..].chars()).collect::<Vec<_>>())
        .collect()
}
