//! `/openapi.json` and what is served agree: every answer of every test is held against the document.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::Value;

use super::{Answer, Api};

/// Checks an answer against the document.
#[track_caller]
pub(super) fn check(document: &Value, method: &str, path: &str, answer: &Answer) {
    let known = template(document, path).map(|template| &document["paths"][template]);
    let operation = known.and_then(|methods| methods.get(method.to_lowercase()));
    let Some(operation) = operation else {
        // What is not in the document is not there, but for the document.
        assert!(
            path == "/openapi.json" || matches!(answer.status, 400 | 401 | 404 | 405 | 406),
            "{method} {path}: {}",
            answer.status
        );
        return;
    };
    let responses = &operation["responses"];
    let response = responses.get(answer.status.to_string()).unwrap_or_else(|| {
        assert!(
            answer.status >= 400,
            "{method} {path} answers {}, which is not in the document",
            answer.status
        );
        &responses["default"]
    });
    match response.get("content") {
        None => assert_eq!(answer.body, Value::Null, "{method} {path}"),
        Some(content) => {
            let kind = content.as_object().and_then(|kinds| kinds.values().next()).expect("a kind");
            if let Err(fault) = fits(document, &kind["schema"], &answer.body) {
                panic!("{method} {path}: {fault}");
            }
        }
    }
}

/// The path of the document that a path of a request belongs to.
fn template<'a>(document: &'a Value, path: &str) -> Option<&'a str> {
    let path = path.split('?').next()?.trim_end_matches('/');
    let path = if path.starts_with("/v1") || path == "/openapi.json" {
        path.to_owned()
    } else {
        format!("/v1{path}")
    };
    let path =
        if path == "/v1" && !path.is_empty() { path } else { path.trim_end_matches(".json").to_owned() };
    let fits = |template: &str| {
        let (parts, given) = (template.split('/'), path.split('/'));
        template.split('/').count() == path.split('/').count()
            && parts
                .zip(given)
                .all(|(part, given)| part == given || (part.starts_with('{') && !given.is_empty()))
    };
    let templates = document["paths"].as_object()?.keys().filter(|template| fits(template));
    // A name counts before a variable.
    templates.min_by_key(|template| template.matches('{').count()).map(String::as_str)
}

/// Whether a value fits a schema, in what of JSON Schema the document uses.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.strip_prefix('#').ok_or("a reference into the document")?;
        return fits(document, document.pointer(pointer).ok_or(reference)?, value);
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
        return Err(format!("{value} is no {}", schema["type"]));
    }
    for (name, value) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => fits(document, schema, value).map_err(|fault| format!("{name}: {fault}"))?,
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
        (Value::Array(items), Some(schema)) => items.iter().try_for_each(|item| fits(document, schema, item)),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn everything_in_the_document_is_there() {
    let api = Api::new();
    let document = api.get("/openapi.json").await.expect(200);
    let mut seen = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for method in methods.as_object().expect("methods").keys() {
            let nobody = "00000000-0000-0000-0000-000000000001";
            let concrete: Vec<_> =
                path.split('/').map(|part| if part.starts_with('{') { nobody } else { part }).collect();
            let headers = [("x-openstack-ironic-api-version", "1.33")];
            let answer = api.raw(&method.to_uppercase(), &concrete.join("/"), &headers, Body::empty()).await;
            assert_ne!(answer.status, 405, "{method} {path}");
            let routed = answer.body["error_message"] != not_routed();
            assert!(routed, "{method} {path}: {:?}", answer.body);
            seen.insert(format!("{method} {path}"));
        }
    }
    assert!(seen.len() > 80, "{seen:?}");
}

/// What the router says of a path that it does not know.
fn not_routed() -> Value {
    let inner = serde_json::json!({
        "faultcode": "Client",
        "faultstring": "The resource could not be found.",
        "debuginfo": null,
    });
    inner.to_string().into()
}

#[tokio::test]
async fn the_document_is_what_it_was() {
    let document = Api::new().get("/openapi.json").await.expect(200);
    let paths = document["paths"].as_object().expect("paths");
    let operations: Vec<_> = paths
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").iter();
            methods.map(move |(method, operation)| {
                let does = operation["summary"].as_str().expect("a text");
                format!("{:7}{path}: {does}", method.to_uppercase())
            })
        })
        .collect();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/operations.txt");
    let text = operations.join("\n") + "\n";
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).expect("is written");
    }
    assert_eq!(text, std::fs::read_to_string(path).expect("a text"), "{path}: BLESS=1 writes it anew");
}
