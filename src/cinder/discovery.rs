//! [`VersionDiscovery`]: the URL of the Block Storage API v3 behind a URL without a version, as openstacksdk finds it.
//!
//! The root of Cinder lists its versions, without a token and with status 300. Only the path of a listed URL counts: its
//! scheme and host are often wrong behind a proxy (keystoneauth, `discover.py`, `_combine_relative_url`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use reqwest::header::ACCEPT;
use reqwest::{StatusCode, Url};
use serde_json::Value;

use super::CinderError;
use super::endpoint::EndpointUrl;
use crate::keystone::{ServiceResponse, StatusClass, TransportError};

/// How long a discovered URL is used.
const TTL: Duration = Duration::from_secs(300);
/// How long a URL without a list of versions is used as it is. A proxy answers 404 while the Cinder behind it starts.
const NEGATIVE_TTL: Duration = Duration::from_secs(30);

/// Discovers URLs, and remembers the last answer. Of concurrent callers, one asks, and all get its answer.
#[derive(Debug, Clone, Default)]
pub(super) struct VersionDiscovery {
    last: Arc<Mutex<Option<DiscoveryAnswer>>>,
    /// Held while a caller asks.
    request: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct DiscoveryAnswer {
    root: String,
    /// The URL of the API v3; `None` if the server lists none.
    result: Result<Option<String>, CinderError>,
    answered_at: Instant,
}

impl DiscoveryAnswer {
    /// Whether the answer holds for a caller who came at `called_at`.
    fn holds(&self, root: &str, called_at: Instant) -> bool {
        let age = self.answered_at.elapsed();
        self.root == root
            && match self.result {
                Ok(Some(_)) => age < TTL,
                Ok(None) => age < NEGATIVE_TTL,
                // Only for callers who waited for it.
                Err(_) => called_at <= self.answered_at,
            }
    }
}

impl VersionDiscovery {
    /// The endpoint with the URL of the API v3. If the server lists no such version, the given endpoint.
    pub(super) async fn resolve(
        &self,
        http: &reqwest::Client,
        endpoint: EndpointUrl,
        timeout: Duration,
    ) -> Result<EndpointUrl, CinderError> {
        let Some(root) = find_root(&endpoint.url) else { return Ok(endpoint) };
        let called_at = Instant::now();
        let url = if let Some(result) = self.recall(&root, called_at) {
            result?
        } else {
            // The limit includes the wait for another caller, who may have been cancelled.
            let ask = self.ask(http, &endpoint, &root, called_at, timeout);
            let timed_out = |_| CinderError::from_transport(TransportError::TimedOut, &endpoint);
            tokio::time::timeout(timeout, ask).await.map_err(timed_out)??
        };
        Ok(match url {
            Some(url) => endpoint.with_discovered(url),
            None => endpoint,
        })
    }

    /// Asks the server, after any caller who already does, unless that caller's answer holds.
    async fn ask(
        &self,
        http: &reqwest::Client,
        endpoint: &EndpointUrl,
        root: &str,
        called_at: Instant,
        timeout: Duration,
    ) -> Result<Option<String>, CinderError> {
        let _permit = self.request.lock().await;
        if let Some(result) = self.recall(root, called_at) {
            return result;
        }
        let result = fetch_version(http, endpoint, root, timeout).await;
        let answer =
            DiscoveryAnswer { root: root.to_owned(), result: result.clone(), answered_at: Instant::now() };
        *self.last.lock() = Some(answer);
        result
    }

    fn recall(&self, root: &str, called_at: Instant) -> Option<Result<Option<String>, CinderError>> {
        let last = self.last.lock();
        last.as_ref().filter(|answer| answer.holds(root, called_at)).map(|answer| answer.result.clone())
    }
}

/// Asks the server at a root for the URL of version 3.
async fn fetch_version(
    http: &reqwest::Client,
    endpoint: &EndpointUrl,
    root: &str,
    timeout: Duration,
) -> Result<Option<String>, CinderError> {
    let to_error = |error: TransportError| CinderError::from_transport(error, endpoint);
    let request = http.get(root).header(ACCEPT, "application/json").timeout(timeout);
    let response = request.send().await.map_err(|error| to_error(error.into()))?;
    let response = ServiceResponse::read(response).await.map_err(to_error)?;
    match StatusClass::from(response.status) {
        StatusClass::Temporary => {
            Err(CinderError::Unavailable(format!("Cinder returned {}", response.status)))
        }
        StatusClass::Unexpected if response.status != StatusCode::MULTIPLE_CHOICES => Ok(None),
        StatusClass::Success | StatusClass::Unexpected => Ok(find_version(&response.body, root)),
        StatusClass::Refused => Ok(None),
    }
}

/// The root of a URL that does not name version 3; `None` if it does.
fn find_root(url: &str) -> Option<String> {
    let (_, path) = url.split_once("://")?;
    if path.split('/').skip(1).any(|segment| version_of(segment) == Some(3)) {
        return None;
    }
    let (parent, last) = url.rsplit_once('/')?;
    let root = if path.contains('/') && version_of(last).is_some() { parent } else { url };
    Some(format!("{root}/"))
}

/// The major version in a segment such as `v3` or `v3.0`.
fn version_of(segment: &str) -> Option<u32> {
    let (major, _) = segment.strip_prefix('v')?.split_once('.').unwrap_or((segment.strip_prefix('v')?, ""));
    major.parse().ok()
}

/// The URL of version 3 in a list of versions, or in the description of this version.
fn find_version(body: &[u8], root: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let listed = body["versions"].as_array().or(body["versions"]["values"].as_array());
    let mut versions = listed.into_iter().flatten().chain(body.get("version"));
    let version = versions.find(|version| version["id"].as_str().and_then(version_of) == Some(3))?;
    let link = version["links"].as_array()?.iter().find(|link| link["rel"] == "self")?;
    let mut url = Url::parse(root).ok()?;
    let listed = url.join(link["href"].as_str()?).ok()?;
    url.set_path(listed.path());
    Some(url.as_str().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_url_without_version_3_is_discovered() {
        for (url, root) in [
            ("http://c:8776/v3", None),
            ("http://c:8776/v3/AUTH_abc", None),
            ("http://c/volume/v3.0", None),
            ("http://c:8776", Some("http://c:8776/")),
            ("http://v3", Some("http://v3/")),
            ("http://c/volume", Some("http://c/volume/")),
            ("http://c/volume/v2", Some("http://c/volume/")),
            ("http://c:8776/v1", Some("http://c:8776/")),
            ("http://c/vault", Some("http://c/vault/")),
        ] {
            assert_eq!(find_root(url).as_deref(), root, "{url}");
        }
    }

    #[test]
    fn the_path_of_a_listed_version_counts() {
        let list = |href: &str| {
            format!(
                r#"{{"versions": [{{"id": "v2.0", "links": [{{"rel": "self", "href": "http://c/v2/"}}]}},
                    {{"id": "v3.0", "links": [{{"rel": "describedby", "href": "x"}}, {{"rel": "self", "href": "{href}"}}]}}]}}"#
            )
        };
        for (body, url) in [
            (list("http://10.0.0.1:8776/v3/"), Some("https://c/v3")),
            (list("http://10.0.0.1:8776/volume/v3/"), Some("https://c/volume/v3")),
            (list("v3"), Some("https://c/volume/v3")),
            (
                r#"{"version": {"id": "v3.0", "links": [{"rel": "self", "href": "/api/v3"}]}}"#.into(),
                Some("https://c/api/v3"),
            ),
            (r#"{"versions": [{"id": "v2.0", "links": []}]}"#.into(), None),
            ("<html>".into(), None),
        ] {
            assert_eq!(find_version(body.as_bytes(), "https://c/volume/").as_deref(), url, "{body}");
        }
    }
}
