//! A real Ironic beside volboot: the same requests to both, and the answers compared.
//!
//! Status, headers and the shape of the body must be the same; where they are not, and that is meant, the request
//! stands in `differences.toml` with the reason. A difference that is gone must leave that file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::{Client, Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::daemon::{Daemon, site};
use crate::ironic::Ironic;

/// How long a verb may take to end.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// An answer, as far as it is compared.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: BTreeMap<&'static str, String>,
    shape: Value,
}

impl Answer {
    async fn of(response: Response, base: SocketAddr) -> (Self, Value) {
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
        // A record's own UUID is made up where none was given.
        if let (Some(location), Some(uuid)) = (headers.get_mut("location"), body["uuid"].as_str()) {
            *location = location.replace(uuid, "UUID");
        }
        let shape = if status < 400 { shape(&body) } else { error_shape(&body) };
        (Self { status, headers, shape }, body)
    }
}

/// A value without what is in it: names of types for values, and the keys of objects.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("boolean"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        // How many interfaces a driver has is a matter of configuration.
        Value::Array(items) if items.iter().all(Value::is_string) => json!(["string"]),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(map) => {
            // Ironic locks a node for the length of a request, and its answer shows the lock; and it takes notes.
            let kept = map.iter().filter(|(key, _)| *key != "reservation" && *key != "driver_internal_info");
            kept.map(|(key, value)| (key.clone(), shape(value))).collect()
        }
    }
}

/// An error is an object with one text in which there is an object again. What that holds depends, in Ironic, on
/// which layer found the fault.
fn error_shape(body: &Value) -> Value {
    let inner = body["error_message"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    json!({"error_message": inner.is_some_and(|inner| inner.is_object()), "keys": body.as_object().map(serde_json::Map::len)})
}

/// A difference that is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    request: String,
    /// What differs: `status`, `headers` or `shape`. Where the status differs, the rest does, too.
    part: Part,
    #[expect(dead_code, reason = "for people")]
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Part {
    Status,
    Headers,
    Shape,
}

#[derive(Debug, Deserialize)]
struct Differences {
    difference: Vec<Difference>,
}

fn difference(ironic: &Answer, ours: &Answer) -> Option<Part> {
    if ironic.status != ours.status {
        Some(Part::Status)
    } else if !ironic.headers.iter().all(|(name, value)| ours.headers.get(name) == Some(value)) {
        // What Ironic's routing refuses lacks the version headers; ours has them.
        Some(Part::Headers)
    } else {
        (ironic.shape != ours.shape).then_some(Part::Shape)
    }
}

/// One request of the file, with its words in braces replaced.
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
        let mut next = || words.next().map(expanded);
        let version = next().filter(|version| version != "-");
        let method = next().expect("a method").parse().expect("a method");
        let path = next().expect("a path");
        Self { text: line.to_owned(), version, method, path, body: next() }
    }

    async fn send(&self, client: &Client, server: SocketAddr) -> (Answer, Value) {
        let url = format!("http://{server}{}", self.path);
        let mut request = client.request(self.method.clone(), url).header("content-type", "application/json");
        if let Some(version) = &self.version {
            request = request.header("x-openstack-ironic-api-version", version);
        }
        if let Some(body) = &self.body {
            request = request.body(body.clone());
        }
        Answer::of(request.send().await.expect("an answer"), server).await
    }
}

/// `{n1}` and the like are UUIDs.
fn expanded(text: &str) -> String {
    let names = ["none", "n1", "n2", "n3", "h1", "i1", "p1", "g1", "c1", "t1"];
    names.iter().enumerate().fold(text.to_owned(), |text, (number, name)| {
        text.replace(&format!("{{{name}}}"), &format!("0000000{number}-0000-4000-8000-000000000000"))
    })
}

/// Waits until a node has come to the end of a verb.
async fn settled(client: &Client, server: SocketAddr, node: &str, state: &str) {
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

#[tokio::test]
async fn volboot_answers_as_ironic_does() {
    let site = site("");
    let (ironic, volboot) = (Ironic::start().await, Daemon::start(site.path()));
    volboot::tls::install_provider();
    let client = Client::new();
    let meant: Differences = toml::from_str(include_str!("differences.toml")).expect("a list of differences");
    let (mut wrong, mut total, mut errors, mut used) = (Vec::new(), 0, 0, 0);
    for line in
        include_str!("exchanges.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(wait) = line.strip_prefix("wait ") {
            let (node, state) = wait.split_once(' ').expect("a node and a state");
            settled(&client, ironic.address, node, state).await;
            settled(&client, volboot.api, node, state).await;
            continue;
        }
        let exchange = Exchange::parse(line);
        let (theirs, their_body) = exchange.send(&client, ironic.address).await;
        let (ours, our_body) = exchange.send(&client, volboot.api).await;
        total += 1;
        errors += usize::from(theirs.status >= 400);
        let expected = meant.difference.iter().find(|difference| difference.request == exchange.text);
        used += usize::from(expected.is_some());
        let found = difference(&theirs, &ours);
        if found != expected.map(|difference| difference.part) {
            wrong.push(format!(
                "{line}\n  {found:?}, and meant: {expected:?}\n  Ironic:  {theirs:?}\n           {their_body}\n  \
                 volboot: {ours:?}\n           {our_body}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{} of {total} answers differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(used, meant.difference.len(), "a difference names a request that is not sent");
    assert!(total >= 200 && errors * 2 >= total - 100, "{total} requests, {errors} errors");
    println!("{total} requests, {errors} of them errors, {used} differences that are meant");
}
