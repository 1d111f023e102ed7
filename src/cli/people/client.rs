//! [`Client`]: asks volboot's API, and says in one line what went wrong.

use std::error::Error;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

/// How long a connection may take to come about, and an answer to come.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(60);
/// How long an answer that has begun may pause: where events are followed, a sign of life comes every 15 s.
const SILENCE: Duration = Duration::from_secs(45);
/// The last version served, in which all is seen.
const VERSION: (&str, &str) = ("X-OpenStack-Ironic-API-Version", "1.33");
/// Pages of a list that are read at most.
const PAGES: usize = 1000;

pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    who: Who,
}

/// Who asks, as the environment says.
enum Who {
    Nobody,
    User(String, String),
    Token(String),
}

impl Client {
    pub(super) fn new(base: &str) -> Result<Self, Box<dyn Error>> {
        crate::tls::install_provider();
        let builder = || reqwest::Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE);
        // A host without any certificates is still good for an API without TLS; one with TLS is then not trusted.
        let http = builder().build().or_else(|_| builder().tls_certs_only([]).build())?;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let who = match (variable("OS_TOKEN"), variable("VOLBOOT_USER")) {
            (_, Some(user)) => Who::User(user, variable("VOLBOOT_PASSWORD").unwrap_or_default()),
            (Some(token), None) => Who::Token(token),
            (None, None) => Who::Nobody,
        };
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), who })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base)).header(VERSION.0, VERSION.1);
        match &self.who {
            Who::Nobody => request,
            Who::User(name, password) => request.basic_auth(name, Some(password)),
            Who::Token(token) => request.header("X-Auth-Token", token),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Box<dyn Error>> {
        self.answer(self.request(Method::GET, path).timeout(ANSWER)).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Box<dyn Error>> {
        self.answer(self.request(Method::POST, path).timeout(ANSWER).json(body)).await
    }

    /// All pages of a list.
    pub(super) async fn all(&self, path: &str, key: &str) -> Result<Vec<Value>, Box<dyn Error>> {
        let mut all = Vec::new();
        let mut path = path.to_owned();
        for _ in 0..PAGES {
            let mut page = self.get(&path).await?;
            if let Value::Array(items) = page[key].take() {
                all.extend(items);
            }
            // Only what comes behind the address is of interest: behind a proxy it may be another.
            let Some((_, rest)) = page["next"].as_str().and_then(|next| next.split_once("/v1/")) else {
                break;
            };
            path = format!("/v1/{rest}");
        }
        Ok(all)
    }

    /// An answer that goes on until somebody ends it.
    pub(super) async fn stream(&self, path: &str) -> Result<Response, Box<dyn Error>> {
        self.good(self.request(Method::GET, path).send().await).await
    }

    async fn answer(&self, request: RequestBuilder) -> Result<Value, Box<dyn Error>> {
        Ok(self.good(request.send().await).await?.json().await?)
    }

    async fn good(&self, sent: reqwest::Result<Response>) -> Result<Response, Box<dyn Error>> {
        let response = sent.map_err(|error| {
            let why = if error.is_connect() { "cannot be reached" } else { "does not answer" };
            format!("volboot {why} at {}: {}", self.base, innermost(&error))
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let body: Value = response.json().await.unwrap_or_default();
        // JSON within JSON, as Ironic's clients want it.
        let inner: Value =
            body["error_message"].as_str().map(serde_json::from_str).transpose()?.unwrap_or_default();
        let text = inner["faultstring"].as_str().map_or_else(|| status.to_string(), str::to_owned);
        Err(text.into())
    }
}

/// A name as one part of a path.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
