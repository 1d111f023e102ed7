//! [`Links`]: the URLs in responses, based on the address that the client used.

use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use serde_json::{Value, json};

use crate::listen::Peer;

/// The authority of links without a usable `Host` header or connection: Ironic's port on localhost.
const FALLBACK_AUTHORITY: &str = "127.0.0.1:6385";

/// The base of all links in a response: `http://host:port`, or `https:` for a TLS connection.
#[derive(Debug, Clone)]
pub(super) struct Links(String);

impl Links {
    /// Builds the base URL from a valid `Host` header: a client behind a forwarded port can use no other address.
    /// Otherwise from the local address of the connection.
    pub(super) fn from_request(request: &Parts) -> Self {
        let host = request.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_host(host));
        let peer = request.extensions.get::<Peer>();
        let local = || peer.map(|peer| peer.local.to_string());
        let host = host.map(str::to_owned).or_else(local).unwrap_or_else(|| FALLBACK_AUTHORITY.to_owned());
        let scheme = if peer.is_some_and(|peer| peer.tls) { "https" } else { "http" };
        Self(format!("{scheme}://{host}"))
    }

    /// The URL of a path below `/v1/`.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.0)
    }

    /// The pair of links that every resource has in Ironic: with the version in the path and without.
    pub(super) fn pair(&self, path: &str) -> Value {
        json!([
            {"rel": "self", "href": self.url(path)},
            {"rel": "bookmark", "href": format!("{}/{path}", self.0)},
        ])
    }
}

/// Whether a text is a host with an optional port, without parts that would change a link's target.
fn is_host(text: &str) -> bool {
    text.parse::<Authority>().is_ok_and(|authority| authority.host() != "" && !text.contains('@'))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn base(host: &str) -> String {
        let request = Request::builder().header(HOST, host).body(()).expect("a request");
        Links::from_request(&request.into_parts().0).0
    }

    #[test]
    fn links_use_the_host_header() {
        assert_eq!(base("boot.example:6385"), "http://boot.example:6385");
        assert_eq!(base("[2001:db8::1]:6385"), "http://[2001:db8::1]:6385");
        assert_eq!(base("192.0.2.1"), "http://192.0.2.1");
    }

    #[test]
    fn an_invalid_host_header_is_ignored() {
        for host in ["", "user@host", "a/b", "a b", "a?b", "a#b", "<script>"] {
            assert_eq!(base(host), "http://127.0.0.1:6385", "{host}");
        }
    }
}
