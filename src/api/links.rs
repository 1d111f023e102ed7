//! Where things are: the links in answers, by the address under which the client reached us.

use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;
use serde_json::{Value, json};

use crate::listen::Peer;

/// Where we are if nobody can tell: Ironic's port on this machine.
const NOWHERE: &str = "127.0.0.1:6385";

/// The part that all links of an answer have in common: `http://host:port`, or `https:` where the
/// client came by TLS.
#[derive(Debug, Clone)]
pub(super) struct Links(String);

impl Links {
    /// The address in the `Host` header, if it is one: it is all a client behind a forwarded port can use. Else
    /// the one at which the connection arrived.
    pub(super) fn of(request: &Parts) -> Self {
        let host = request.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| is_host(host));
        let peer = request.extensions.get::<Peer>();
        let local = || peer.map(|peer| peer.local.to_string());
        let host = host.map(str::to_owned).or_else(local).unwrap_or_else(|| NOWHERE.to_owned());
        let scheme = if peer.is_some_and(|peer| peer.tls) { "https" } else { "http" };
        Self(format!("{scheme}://{host}"))
    }

    /// The address of a thing in the API, given its path behind `/v1/`.
    pub(super) fn to(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.0)
    }

    /// The pair that Ironic gives every resource: with the version in the path, and without.
    pub(super) fn pair(&self, path: &str) -> Value {
        json!([
            {"rel": "self", "href": self.to(path)},
            {"rel": "bookmark", "href": format!("{}/{path}", self.0)},
        ])
    }
}

/// Whether a text is a host with or without a port, and nothing that could bend a link.
fn is_host(text: &str) -> bool {
    text.parse::<Authority>().is_ok_and(|authority| authority.host() != "" && !text.contains('@'))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn base(host: &str) -> String {
        let request = Request::builder().header(HOST, host).body(()).expect("a request");
        Links::of(&request.into_parts().0).0
    }

    #[test]
    fn links_carry_the_address_the_client_used() {
        assert_eq!(base("boot.example:6385"), "http://boot.example:6385");
        assert_eq!(base("[2001:db8::1]:6385"), "http://[2001:db8::1]:6385");
        assert_eq!(base("192.0.2.1"), "http://192.0.2.1");
    }

    #[test]
    fn a_host_that_is_none_is_not_repeated() {
        for host in ["", "user@host", "a/b", "a b", "a?b", "a#b", "<script>"] {
            assert_eq!(base(host), "http://127.0.0.1:6385", "{host}");
        }
    }
}
