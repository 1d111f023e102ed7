//! Sessions against a Keystone that answers what a real one (2026.1) once did: `tests/exchanges/keystone`.

mod cloud;
mod session;
mod tls;
mod validator;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Cloud, Surroundings};
use crate::config::Config;
use crate::listen::{Limits, Listener, Tls};

/// One exchange with a real Keystone.
fn exchange(name: &str) -> Value {
    let path = format!("{}/tests/exchanges/keystone/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).expect("is there")).expect("is JSON")
}

/// What a captured exchange answered.
fn answer(name: &str) -> Response<String> {
    let exchange = exchange(name);
    let status = exchange["status"].as_u64().and_then(|status| u16::try_from(status).ok()).expect("a status");
    let mut response = Response::new(exchange["response_body"].to_string());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in exchange["response_headers"].as_object().expect("headers") {
        if !name.eq_ignore_ascii_case("content-length") {
            let name: HeaderName = name.parse().expect("a name");
            let value = HeaderValue::from_str(value.as_str().expect("text")).expect("a value");
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A captured answer with another token, and another text in its body.
fn answer_with(name: &str, token: &'static str, from: &str, to: &str) -> Response<String> {
    let mut response = answer(name).map(|body| body.replace(from, to));
    response.headers_mut().insert("x-subject-token", HeaderValue::from_static(token));
    response
}

/// A request that came.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Value,
}

/// A Keystone that gives prepared answers, one after the other, each when the test lets it.
struct Fake {
    /// Where it is, without `/v3`.
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    answers: Arc<Mutex<VecDeque<Response<String>>>>,
    gate: Arc<Semaphore>,
}

impl Fake {
    fn start(answers: impl IntoIterator<Item = Response<String>>) -> Self {
        Self::at(Self::bound(), "http", answers)
    }

    fn start_with_tls(answers: impl IntoIterator<Item = Response<String>>, tls: Tls) -> Self {
        Self::at(Self::bound().with_tls(tls), "https", answers)
    }

    fn bound() -> Listener {
        Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds")
    }

    fn at(listener: Listener, scheme: &str, answers: impl IntoIterator<Item = Response<String>>) -> Self {
        let url = format!("{scheme}://{}", listener.local_addr());
        let fake = Self {
            url,
            asked: Arc::default(),
            answers: Arc::new(Mutex::new(answers.into_iter().collect())),
            gate: Arc::new(Semaphore::new(1000)),
        };
        let (asked, answers, gate) =
            (Arc::clone(&fake.asked), Arc::clone(&fake.answers), Arc::clone(&fake.gate));
        let router =
            Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
                let body = serde_json::from_slice(&body).unwrap_or_default();
                asked.lock().expect("works").push(Asked {
                    method,
                    path: uri.path().to_owned(),
                    headers,
                    body,
                });
                let answer = answers.lock().expect("works").pop_front().expect("an answer is left");
                let gate = Arc::clone(&gate);
                async move {
                    gate.acquire().await.expect("is open").forget();
                    answer
                }
            });
        let stop = CancellationToken::new();
        tokio::spawn(listener.serve(router, Limits::default(), stop, Duration::ZERO));
        fake
    }

    fn asked(&self) -> usize {
        self.asked.lock().expect("works").len()
    }

    /// The lab's cloud with this Keystone.
    fn cloud(&self) -> Cloud {
        cloud_at(&self.url, "")
    }
}

/// The lab's cloud with a Keystone there, as the captured exchanges were made; and what more is said of it.
fn cloud_at(url: &str, more: &str) -> Cloud {
    let text = format!(
        "[cinder]\nauth_url = \"{url}/v3\"\nusername = \"bootapp\"\npassword = \"lab-secret\"\n\
         project_name = \"boot\"\n{more}"
    );
    let config = Config::parse(&text).expect("is right");
    Cloud::resolve(&config.cinder.cloud, &Surroundings::default()).expect("is right").expect("is there")
}
