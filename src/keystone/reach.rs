//! How a cloud's servers are reached: what URL may name one, and whom to believe that it is who it says.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, Url, redirect};

use crate::tls;

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long any answer may take, if whoever asks sets no limit.
const ANSWERING: Duration = Duration::from_secs(60);
/// How long a connection is kept that nobody uses: less than the servers in front of OpenStack's services keep it.
const IDLE: Duration = Duration::from_secs(4);

/// What is wrong with a URL that names no server.
pub(super) const NO_URL: &str = "expected a URL such as https://192.0.2.2:5000/v3";

/// A URL that names a server and a path there, and nothing else; without a slash at its end.
pub(super) fn url(text: &str) -> Option<String> {
    let plain = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
    };
    Url::parse(text).is_ok_and(|url| plain(&url)).then(|| text.trim_end_matches('/').to_owned())
}

/// Keystone, up to `/v3`, whichever of its versions a URL names.
pub(super) fn keystone(text: &str) -> Option<String> {
    let url = url(text)?;
    let base = url.strip_suffix("/v3").or_else(|| url.strip_suffix("/v2.0")).unwrap_or(&url);
    Some(format!("{base}/v3"))
}

/// Speaks to servers whose certificates are vouched for by the authorities in a file, and by no others; without a
/// file, by the system's. Follows no redirection, since requests carry secrets, and goes through no proxy.
pub(super) fn client(cacert: Option<&Path>, verify: bool) -> Result<Client, String> {
    tls::install_provider();
    let trusting = |only: Option<Vec<Certificate>>| {
        let builder = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECTING)
            .timeout(ANSWERING)
            .pool_idle_timeout(IDLE)
            .user_agent(concat!("volboot/", env!("CARGO_PKG_VERSION")))
            .tls_danger_accept_invalid_certs(!verify);
        match only {
            Some(certificates) => builder.tls_certs_only(certificates).build(),
            None => builder.build(),
        }
    };
    let built = match cacert {
        Some(path) => {
            let certificates =
                certificates(path).map_err(|error| format!("cannot use {}: {error}", path.display()))?;
            trusting(Some(certificates))
        }
        // A host without any certificates is still good for a cloud without TLS; one with TLS is then refused.
        None => trusting(None).or_else(|_| trusting(Some(Vec::new()))),
    };
    built.map_err(|error| format!("TLS cannot be set up: {error}"))
}

/// All certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    let found = Certificate::from_pem_bundle(&pem).map_err(|_| "it is no PEM".to_owned())?;
    if found.is_empty() { Err("it holds no certificate".into()) } else { Ok(found) }
}
