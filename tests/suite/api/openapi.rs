//! The OpenAPI document against the served API: every response of every test is validated with the document.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::Value;
use volboot::auth::Auth;
use volboot::telemetry::Metrics;

use super::{Api, ApiResponse, LATEST};

/// Validates a response with the document.
#[track_caller]
pub(super) fn check_response(document: &Value, method: &str, path: &str, response: &ApiResponse) {
    let methods = find_template(document, path).map(|template| &document["paths"][template]);
    let operation = methods.and_then(|methods| methods.get(method.to_lowercase()));
    let Some(operation) = operation else {
        // Only the document itself may be served without an entry in the document.
        assert!(
            path == "/openapi.json" || matches!(response.status, 400 | 401 | 404 | 405 | 406),
            "{method} {path}: {}",
            response.status
        );
        return;
    };
    let responses = &operation["responses"];
    let expected = responses.get(response.status.to_string()).unwrap_or_else(|| {
        assert!(
            response.status >= 400,
            "{method} {path} answers {}, which is not in the document",
            response.status
        );
        &responses["default"]
    });
    match expected.get("content") {
        None => assert_eq!(response.body, Value::Null, "{method} {path}"),
        Some(content) => {
            let kind = content.as_object().and_then(|kinds| kinds.values().next()).expect("a content type");
            if let Err(fault) = check_schema(document, &kind["schema"], &response.body) {
                panic!("{method} {path}: {fault}");
            }
        }
    }
}

/// Finds the path template of the document for a request's path.
fn find_template<'a>(document: &'a Value, path: &str) -> Option<&'a str> {
    let path = path.split('?').next()?.trim_end_matches('/');
    let path = if path.starts_with("/v1") || path == "/openapi.json" {
        path.to_owned()
    } else {
        format!("/v1{path}")
    };
    let path =
        if path == "/v1" && !path.is_empty() { path } else { path.trim_end_matches(".json").to_owned() };
    let matches = |template: &str| {
        let (parts, segments) = (template.split('/'), path.split('/'));
        template.split('/').count() == path.split('/').count()
            && parts
                .zip(segments)
                .all(|(part, segment)| part == segment || (part.starts_with('{') && !segment.is_empty()))
    };
    let templates = document["paths"].as_object()?.keys().filter(|template| matches(template));
    // A literal segment takes precedence over a variable.
    templates.min_by_key(|template| template.matches('{').count()).map(String::as_str)
}

/// Checks a value against a schema, for the subset of JSON Schema that the document uses.
fn check_schema(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').ok_or("a reference into the document")?;
        return check_schema(document, document.pointer(pointer).ok_or(reference)?, value);
    }
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let allowed = |kind: &Value| match kind {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(|kind| kind == actual),
        kind => kind == actual,
    };
    if !allowed(&schema["type"]) {
        return Err(format!("{value} is not of type {}", schema["type"]));
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => {
                check_schema(document, schema, value).map_err(|fault| format!("{name}: {fault}"))?;
            }
            None if schema["additionalProperties"] == false => {
                return Err(format!("{name} is not in the document"));
            }
            None => {}
        }
    }
    let missing = schema["required"].as_array().into_iter().flatten();
    if let Some(missing) = missing.filter_map(Value::as_str).find(|name| value.get(name).is_none()) {
        return Err(format!("{missing} is missing"));
    }
    match (value, schema.get("items")) {
        (Value::Array(items), Some(schema)) => {
            items.iter().try_for_each(|item| check_schema(document, schema, item))
        }
        _ => Ok(()),
    }
}

#[tokio::test]
async fn every_documented_operation_is_served() {
    let api = Api::new();
    let document = api.get("/openapi.json").await.expect(200);
    let mut operations = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let missing = "00000000-0000-0000-0000-000000000001";
            let concrete: Vec<_> =
                path.split('/').map(|part| if part.starts_with('{') { missing } else { part }).collect();
            let headers = [("x-openstack-ironic-api-version", LATEST)];
            let response =
                api.send_raw(&method.to_uppercase(), &concrete.join("/"), &headers, Body::empty()).await;
            assert_ne!(response.status, 405, "{method} {path}");
            let is_routed = response.body["error_message"] != unknown_path_error();
            assert!(is_routed, "{method} {path}: {:?}", response.body);
            operations.insert(format!("{method} {path}"));
        }
    }
    assert!(operations.len() > 80, "{operations:?}");
}

/// Each operation that requires a log-in answers 429 after too many wrong passwords, and the document says so.
#[tokio::test]
async fn login_limit_is_documented_where_it_is_answered() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let hash = bcrypt::hash("secret", 4).expect("bcrypt hashes the password");
    std::fs::write(file.path(), format!("ann:{hash}\n")).expect("the file is writable");
    let auth = Auth::http_basic_blocking(file.path(), Metrics::new()).expect("the htpasswd file is valid");
    let api = Api::with_auth(auth);
    let wrong = [("authorization", "Basic YW5uOndyb25n"), ("x-openstack-ironic-api-version", "1.33")];
    let document = api.document().await;
    let mut counts = [0; 2];
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let method = method.to_uppercase();
            let concrete = path.replace(['{', '}'], "");
            let mut response = api.send_raw(&method, &concrete, &wrong, Body::empty()).await;
            // The first passwords are checked, and on a slow host a later one too.
            for _ in 0..100 {
                if response.status != 401 {
                    break;
                }
                response = api.send_raw(&method, &concrete, &wrong, Body::empty()).await;
            }
            let declared = operation["responses"].get("429");
            counts[usize::from(declared.is_some())] += 1;
            assert_eq!(response.status == 429, declared.is_some(), "{method} {path}: {}", response.status);
            if let Some(declared) = declared {
                assert!(declared["headers"]["Retry-After"].is_object(), "{method} {path}");
                assert_eq!(response.header("retry-after"), "6", "{method} {path}");
            }
        }
    }
    // The root of the API and its version need no log-in.
    assert!(counts[0] == 2 && counts[1] > 80, "{counts:?}");
}

/// The router's error for an unknown path.
fn unknown_path_error() -> Value {
    let inner = serde_json::json!({
        "faultcode": "Client",
        "faultstring": "The resource could not be found.",
        "debuginfo": null,
    });
    inner.to_string().into()
}

#[tokio::test]
async fn operations_match_the_golden_file() {
    let document = Api::new().get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let operations: Vec<_> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").iter();
            methods.map(move |(method, operation)| {
                let summary = operation["summary"].as_str().expect("a string");
                format!("{:7}{path}: {summary}", method.to_uppercase())
            })
        })
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/operations.txt");
    let text = operations.join("\n") + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).expect("the file is writable");
    }
    assert_eq!(
        text,
        std::fs::read_to_string(path).expect("a string"),
        "{path}: set BLESS=1 to rewrite the file"
    );
}
