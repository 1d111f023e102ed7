//! HTTP client for OpenStack services: URL validation, CA bundle and time-outs.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Url, redirect};

use crate::tls;

/// Time-out for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time-out for a request, where the caller sets no shorter one.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// An idle connection is closed after this time: before the proxies in front of OpenStack services close it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The error message for an invalid URL.
pub(super) const URL_EXPECTED: &str = "expected a URL such as https://192.0.2.2:5000/v3";

/// Accepts a URL of scheme, host and path only. Returns it without a trailing slash.
pub(super) fn parse_url(text: &str) -> Option<String> {
    let is_plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    Url::parse(text).is_ok_and(|url| is_plain(&url)).then(|| text.trim_end_matches('/').to_owned())
}

/// The URL of Keystone v3, with `/v3` at its end, whichever version `text` names.
pub(super) fn parse_auth_url(text: &str) -> Option<String> {
    let url = parse_url(text)?;
    let base = url.strip_suffix("/v3").or_else(|| url.strip_suffix("/v2.0")).unwrap_or(&url);
    Some(format!("{base}/v3"))
}

/// Builds a client that trusts only the authorities in the file `cacert`; without a file, those of the system. It
/// follows no redirects, because requests carry secrets, and uses no proxy.
pub(super) fn build(cacert: Option<&Path>, verify: bool) -> Result<Client, String> {
    tls::install_provider();
    let build_with = |authorities: Option<Vec<Certificate>>| {
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .user_agent(concat!("volboot/", env!("CARGO_PKG_VERSION")))
            .tls_danger_accept_invalid_certs(!verify);
        match authorities {
            Some(certificates) => builder.tls_certs_only(certificates).build(),
            None => builder.build(),
        }
    };
    let client = match cacert {
        Some(path) => {
            let certificates =
                read_certificates(path).map_err(|error| format!("cannot use {}: {error}", path.display()))?;
            build_with(Some(certificates))
        }
        // A host without any CA certificates can still use a cloud without TLS; every TLS server is then rejected.
        None => build_with(None).or_else(|_| build_with(Some(Vec::new()))),
    };
    client.map_err(|error| format!("cannot set up TLS: {error}"))
}

/// Reads all certificates of a PEM file.
fn read_certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|_| "the file is not in PEM format".to_owned())?;
    if certificates.is_empty() { Err("the file holds no certificate".into()) } else { Ok(certificates) }
}
