//! Differential test: sends the same requests to a real Ironic and to volboot, and compares the responses.
//!
//! Status, headers and the shape of the body must be equal. `differences.toml` lists the deliberate differences with
//! reasons. An entry without an actual difference fails the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::daemon::{Daemon, site};
use crate::ironic::Ironic;

/// The time limit of a provision verb.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// The compared parts of a response.
#[derive(Debug, PartialEq)]
struct ComparedResponse {
    status: u16,
    headers: BTreeMap<&'static str, String>,
    shape: Value,
}

impl ComparedResponse {
    async fn read(response: Response, base: SocketAddr) -> (Self, Value) {
        let status = response.status().as_u16();
        let header =
            |name| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
        let mut headers = BTreeMap::new();
        for name in ["content-type", "location", "x-openstack-ironic-api-version"] {
            if let Some(value) = header(name) {
                headers.insert(name, value.replace(&base.to_string(), "HOST").replace("; charset=UTF-8", ""));
            }
        }
        for name in ["x-openstack-ironic-api-minimum-version", "x-openstack-ironic-api-maximum-version"] {
            if header(name).is_some() {
                headers.insert(name, "some".into());
            }
        }
        let body = response.text().await.expect("a body");
        let body: Value =
            if body.is_empty() { Value::Null } else { serde_json::from_str(&body).expect("JSON") };
        // The server generates a UUID for a record created without one.
        if let (Some(location), Some(uuid)) = (headers.get_mut("location"), body["uuid"].as_str()) {
            *location = location.replace(uuid, "UUID");
        }
        let shape = if status < 400 { json_shape(&body) } else { error_json_shape(&body) };
        (Self { status, headers, shape }, body)
    }
}

/// Reduces a value to its shape: the names of types, and the keys of objects.
fn json_shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        // The number of a driver's interfaces depends on the configuration.
        Value::Array(items) if items.iter().all(Value::is_string) => json!(["string"]),
        Value::Array(items) => items.iter().map(json_shape).collect(),
        Value::Object(map) => {
            // Ironic's responses show the node's lock during the request and the driver's internal notes.
            let compared =
                map.iter().filter(|(key, _)| *key != "reservation" && *key != "driver_internal_info");
            compared.map(|(key, value)| (key.clone(), json_shape(value))).collect()
        }
    }
}

/// Reduces an error to its shape: an object with a string that contains another object. In Ironic, the content of
/// the inner object depends on the layer that reports the error.
fn error_json_shape(body: &Value) -> Value {
    let inner = body["error_message"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({"error_message": inner.is_some_and(|inner| inner.is_object()), "keys": body.as_object().map(serde_json::Map::len)})
}

/// A deliberate difference.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownDifference {
    request: String,
    /// The first difference of `status`, `headers` and `shape`. A different status implies other differences.
    part: DifferingPart,
    #[expect(dead_code, reason = "for maintainers")]
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DifferingPart {
    Status,
    Headers,
    Shape,
}

#[derive(Debug, Deserialize)]
struct KnownDifferences {
    difference: Vec<KnownDifference>,
}

fn first_difference(ironic: &ComparedResponse, volboot_response: &ComparedResponse) -> Option<DifferingPart> {
    if ironic.status != volboot_response.status {
        Some(DifferingPart::Status)
    } else if !ironic.headers.iter().all(|(name, value)| volboot_response.headers.get(name) == Some(value)) {
        // Ironic's routing errors lack the version headers; volboot's errors have them.
        Some(DifferingPart::Headers)
    } else {
        (ironic.shape != volboot_response.shape).then_some(DifferingPart::Shape)
    }
}

/// One request of the file, with the names in braces replaced by UUIDs.
struct Exchange {
    text: String,
    version: Option<String>,
    method: Method,
    path: String,
    body: Option<String>,
}

impl Exchange {
    fn parse(line: &str) -> Self {
        let mut words = line.splitn(4, ' ');
        let mut next = || words.next().map(expand_uuids);
        let version = next().filter(|version| version != "-");
        let method = next().expect("a method").parse().expect("a method");
        let path = next().expect("a path");
        Self { text: line.to_owned(), version, method, path, body: next() }
    }

    async fn send(&self, client: &Client, server: SocketAddr) -> (ComparedResponse, Value) {
        let url = format!("http://{server}{}", self.path);
        let mut request = client.request(self.method.clone(), url).header("content-type", "application/json");
        if let Some(version) = &self.version {
            request = request.header("x-openstack-ironic-api-version", version);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        ComparedResponse::read(request.send().await.expect("a response"), server).await
    }
}

/// Replaces names in braces, such as `{n1}`, by fixed UUIDs.
fn expand_uuids(text: &str) -> String {
    let names = ["none", "n1", "n2", "n3", "h1", "i1", "p1", "g1", "c1", "t1", "a1"];
    names.iter().enumerate().fold(text.to_owned(), |text, (number, name)| {
        text.replace(&format!("{{{name}}}"), &format!("{number:08x}-0000-4000-8000-000000000000"))
    })
}

/// Waits until a node has reached a state and is idle.
async fn wait_for_state(client: &Client, server: SocketAddr, node: &str, state: &str) {
    let exchange = Exchange::parse(&format!("1.33 GET /v1/nodes/{node}"));
    let deadline = Instant::now() + LIMIT;
    loop {
        let (_, body) = exchange.send(client, server).await;
        let idle = ["target_provision_state", "target_power_state", "reservation"]
            .iter()
            .all(|key| body[key].is_null());
        if idle && body["provision_state"] == state {
            return;
        }
        assert!(Instant::now() < deadline, "{server}: {node} does not become {state}: {body}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until an allocation has a result.
async fn wait_for_allocation(client: &Client, server: SocketAddr, name: &str, state: &str) {
    let exchange = Exchange::parse(&format!("1.52 GET /v1/allocations/{name}"));
    let deadline = Instant::now() + LIMIT;
    loop {
        let (_, body) = exchange.send(client, server).await;
        if body["state"] == state {
            return;
        }
        assert!(Instant::now() < deadline, "{server}: {name} does not become {state}: {body}");
        tokio::time::sleep(PAUSE).await;
    }
}

#[tokio::test]
async fn responses_match_ironics() {
    let site = site("");
    let (ironic, volboot) = (Ironic::start().await, Daemon::start(site.path()));
    volboot::tls::install_provider();
    let client = Client::new();
    let known: KnownDifferences =
        toml::from_str(include_str!("differences.toml")).expect("a list of differences");
    let (mut failures, mut total, mut errors, mut used) = (Vec::new(), 0, 0, 0);
    for line in
        include_str!("exchanges.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(wait) = line.strip_prefix("wait ") {
            let (node, state) = wait.split_once(' ').expect("a node and a state");
            wait_for_state(&client, ironic.address, node, state).await;
            wait_for_state(&client, volboot.api, node, state).await;
            continue;
        }
        if let Some(wait) = line.strip_prefix("allocation ") {
            let (name, state) = wait.split_once(' ').expect("an allocation and a state");
            wait_for_allocation(&client, ironic.address, name, state).await;
            wait_for_allocation(&client, volboot.api, name, state).await;
            continue;
        }
        let exchange = Exchange::parse(line);
        let (ironic_response, ironic_body) = exchange.send(&client, ironic.address).await;
        let (volboot_response, volboot_body) = exchange.send(&client, volboot.api).await;
        total += 1;
        errors += usize::from(ironic_response.status >= 400);
        let expected = known.difference.iter().find(|difference| difference.request == exchange.text);
        used += usize::from(expected.is_some());
        let actual = first_difference(&ironic_response, &volboot_response);
        if actual != expected.map(|difference| difference.part) {
            failures.push(format!(
                "{line}\n  {actual:?}, expected: {expected:?}\n  Ironic:  {ironic_response:?}\n           \
                 {ironic_body}\n  volboot: {volboot_response:?}\n           {volboot_body}"
            ));
        }
    }
    assert!(failures.is_empty(), "{} of {total} responses differ:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(
        used,
        known.difference.len(),
        "an entry of differences.toml names a request that exchanges.txt lacks"
    );
    assert!(total >= 200 && errors * 2 >= total - 100, "{total} requests, {errors} errors");
    println!("{total} requests, {errors} of them errors, {used} deliberate differences");
}
