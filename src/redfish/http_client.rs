//! HTTP client for one BMC: TLS trust, time limits, redirects and bounded bodies.

use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Certificate, Client, Response, StatusCode, redirect};

use super::CertificateTrust;
use super::error::BmcFault;

/// The largest body that is read. A computer system has some ten kilobytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The most redirects of one request.
const MAX_REDIRECTS: usize = 3;
/// The most files of a directory of authorities that are read.
const MAX_CA_FILES: usize = 200;

/// Time limits of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallLimits {
    /// For a connection.
    pub connect: Duration,
    /// For one exchange, connection included. BMCs need some seconds for a login.
    pub exchange: Duration,
    /// The unit of the pauses between repetitions.
    pub pause: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            exchange: Duration::from_secs(20),
            pause: Duration::from_secs(1),
        }
    }
}

/// A complete response.
#[derive(Debug)]
pub(super) struct BmcResponse {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// Builds a client. Needs a TLS provider for the process.
pub(super) async fn build(trust: &CertificateTrust, limits: CallLimits) -> Result<Client, BmcFault> {
    let trust = trust.clone();
    // Files are read.
    let built = tokio::task::spawn_blocking(move || build_blocking(&trust, limits));
    built.await.unwrap_or_else(|error| Err(error.to_string())).map_err(BmcFault::Unusable)
}

fn build_blocking(trust: &CertificateTrust, limits: CallLimits) -> Result<Client, String> {
    let build_with = |authorities: Option<Vec<Certificate>>| {
        let builder = Client::builder()
            .redirect(redirect::Policy::custom(follow_same_host))
            .no_proxy()
            .connect_timeout(limits.connect)
            .timeout(limits.exchange)
            // BMCs have few connections, and some fail on a persistent one (sushy closes each, too).
            .pool_max_idle_per_host(0)
            .default_headers(default_headers())
            .user_agent(concat!("volboot/", env!("CARGO_PKG_VERSION")))
            .tls_danger_accept_invalid_certs(*trust == CertificateTrust::Unverified);
        match authorities {
            Some(certificates) => builder.tls_certs_only(certificates).build(),
            None => builder.build(),
        }
    };
    let client = match trust {
        CertificateTrust::Bundle(path) => {
            let certificates = read_authorities(path)
                .map_err(|error| format!("cannot use redfish_verify_ca {}: {error}", path.display()))?;
            build_with(Some(certificates))
        }
        // A host without any authority can still reach a BMC that is not verified.
        CertificateTrust::System | CertificateTrust::Unverified => {
            build_with(None).or_else(|_| build_with(Some(Vec::new())))
        }
    };
    client.map_err(|error| format!("cannot set up TLS: {error}"))
}

fn default_headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [("odata-version", "4.0"), ("accept", "application/json"), ("connection", "close")] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
}

/// Follows redirects of a BMC within itself, as from `/redfish/v1` to `/redfish/v1/`.
fn follow_same_host(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let origin = |url: &reqwest::Url| {
        (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
    };
    let stays = attempt.previous().iter().all(|url| origin(url) == origin(attempt.url()));
    if !stays {
        return attempt.error("another host");
    }
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error("too many redirects")
    } else {
        attempt.follow()
    }
}

/// Reads the certificates of a PEM file, or of all files of a directory.
fn read_authorities(path: &Path) -> Result<Vec<Certificate>, String> {
    let mut certificates = Vec::new();
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| error.to_string())?;
        for entry in entries.take(MAX_CA_FILES).filter_map(Result::ok).filter(|entry| entry.path().is_file())
        {
            // Directories of authorities hold other files, too.
            let pem = std::fs::read(entry.path()).unwrap_or_default();
            certificates.extend(Certificate::from_pem_bundle(&pem).unwrap_or_default());
        }
    } else {
        let pem = std::fs::read(path).map_err(|error| error.to_string())?;
        certificates =
            Certificate::from_pem_bundle(&pem).map_err(|_| "the file is not in PEM format".to_owned())?;
    }
    if certificates.is_empty() { Err("it holds no certificate".into()) } else { Ok(certificates) }
}

impl BmcResponse {
    /// Reads the rest of a response.
    pub(super) async fn read(
        mut response: Response,
        request: &str,
        limits: CallLimits,
    ) -> Result<Self, BmcFault> {
        let mut body = Vec::new();
        let fault = |error| BmcFault::from_transport(error, request, limits.exchange);
        while let Some(chunk) = response.chunk().await.map_err(fault)? {
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(BmcFault::invalid(
                    request,
                    format!("the body exceeds {} KiB", MAX_BODY_BYTES >> 10),
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status: response.status(), headers: std::mem::take(response.headers_mut()), body })
    }

    /// The body as a JSON object.
    pub(super) fn json(&self, request: &str) -> Result<serde_json::Value, BmcFault> {
        let value: serde_json::Value = serde_json::from_slice(&self.body)
            .map_err(|error| BmcFault::invalid(request, format!("no JSON: {error}")))?;
        if value.is_object() { Ok(value) } else { Err(BmcFault::invalid(request, "no JSON object")) }
    }

    /// The text of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
