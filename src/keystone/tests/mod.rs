//! Tests of sessions and validation against [`ReplayKeystone`].
//!
//! It replays exchanges that were captured from a real Keystone (2026.1): `tests/exchanges/keystone`.

mod cloud;
mod clouds_yaml;
mod session;
mod tls;
mod validator;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Cloud, Environment};
use crate::config::Config;
use crate::listen::{HttpLimits, Listener, Tls};

/// One captured exchange.
fn exchange(name: &str) -> Value {
    let path = format!("{}/tests/exchanges/keystone/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("reads")).expect("is JSON")
}

/// The response of a captured exchange.
fn response(name: &str) -> Response<String> {
    let exchange = exchange(name);
    let status =
        exchange["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("is a status");
    let mut response = Response::new(exchange["response_body"].to_string());
    *response.status_mut() = StatusCode::from_u16(status).expect("is a status");
    for (name, value) in exchange["response_headers"].as_object().expect("headers") {
        if !name.eq_ignore_ascii_case("content-length") {
            let name: HeaderName = name.parse().expect("a name");
            let value = HeaderValue::from_str(value.as_str().expect("text")).expect("a value");
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A captured response with another token, and with `from` replaced in its body.
fn response_with(name: &str, token: &'static str, from: &str, to: &str) -> Response<String> {
    let mut response = response(name).map(|body| body.replace(from, to));
    response.headers_mut().insert("x-subject-token", HeaderValue::from_static(token));
    response
}

/// A request that [`ReplayKeystone`] received.
#[derive(Debug)]
struct RecordedRequest {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Value,
}

/// Sends prepared responses in order, each when the test opens the gate.
struct ReplayKeystone {
    /// Its URL, without `/v3`.
    url: String,
    requests: Arc<Mutex<Vec<RecordedRequest>>>,
    responses: Arc<Mutex<VecDeque<Response<String>>>>,
    gate: Arc<Semaphore>,
}

impl ReplayKeystone {
    fn start(responses: impl IntoIterator<Item = Response<String>>) -> Self {
        Self::serve(Self::bind(), "http", responses)
    }

    fn start_with_tls(responses: impl IntoIterator<Item = Response<String>>, tls: Tls) -> Self {
        Self::serve(Self::bind().with_tls(tls), "https", responses)
    }

    fn bind() -> Listener {
        Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds")
    }

    fn serve(
        listener: Listener,
        scheme: &str,
        responses: impl IntoIterator<Item = Response<String>>,
    ) -> Self {
        let url = format!("{scheme}://{}", listener.local_addr());
        let fake = Self {
            url,
            requests: Arc::default(),
            responses: Arc::new(Mutex::new(responses.into_iter().collect())),
            gate: Arc::new(Semaphore::new(1000)),
        };
        let (requests, responses, gate) =
            (Arc::clone(&fake.requests), Arc::clone(&fake.responses), Arc::clone(&fake.gate));
        let router =
            Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                let body = serde_json::from_slice(&body).unwrap_or_default();
                requests.lock().push(RecordedRequest { method, path: uri.path().to_owned(), headers, body });
                let response = responses.lock().pop_front().expect("a response is left");
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await.expect("is open").forget();
                    response
                }
            });
        let stop = CancellationToken::new();
        tokio::spawn(listener.serve(router, HttpLimits::default(), stop, Duration::ZERO));
        fake
    }

    fn request_count(&self) -> usize {
        self.requests.lock().len()
    }

    /// The lab's cloud, with this Keystone.
    fn cloud(&self) -> Cloud {
        cloud_at(&self.url, "")
    }
}

/// The lab's cloud with a Keystone at `url`: the cloud of the captured exchanges, with `extra` settings.
fn cloud_at(url: &str, extra: &str) -> Cloud {
    let text = format!(
        "[cinder]\nauth_url = \"{url}/v3\"\nusername = \"bootapp\"\npassword = \"lab-secret\"\n\
         project_name = \"boot\"\n{extra}"
    );
    let config = Config::parse(&text).expect("is valid");
    Cloud::resolve_blocking(&config.cinder.cloud, &Environment::default())
        .expect("is valid")
        .expect("is configured")
}
