//! [`RequestOrigin`]: the sender of a request, which a reverse proxy may have forwarded.
//!
//! To the kernel, each client of a proxy on this host is this host. Requests with the header of a proxy are therefore
//! not trusted as the host's own, unless `[http] trusted_proxies` names the proxy.

use std::net::SocketAddr;

use axum::http::HeaderMap;
use ipnet::IpNet;

use super::proxy::{ProxyError, find_client, has_forwarding_header};
use crate::listen::Peer;
use crate::model::NeighbourCheck;

/// The sender of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestOrigin {
    /// The connection. Behind a trusted proxy, `remote` is the proxy's client, with port 0.
    pub(super) peer: Peer,
    /// Whether a proxy that is not trusted has forwarded the request.
    is_proxied: bool,
}

impl RequestOrigin {
    /// Identifies the sender of a request with these headers.
    pub(super) fn identify(peer: Peer, headers: &HeaderMap, trusted: &[IpNet]) -> Result<Self, ProxyError> {
        let remote = peer.remote.ip().to_canonical();
        if trusted.iter().any(|network| network.contains(&remote)) {
            let client = find_client(remote, headers, trusted)?;
            let peer = Peer { remote: SocketAddr::new(client, 0), ..peer };
            return Ok(Self { peer, is_proxied: false });
        }
        Ok(Self { peer, is_proxied: has_forwarding_header(headers) })
    }

    /// The place of the sender, by the place of its address.
    pub(super) fn judge(self, check: NeighbourCheck) -> NeighbourCheck {
        match check {
            NeighbourCheck::Unchecked if self.is_proxied => {
                NeighbourCheck::Proxied { address: self.peer.remote.ip().to_canonical() }
            }
            check => check,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_of_a_trusted_proxy_is_the_requester_and_another_proxy_is_recognized() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let peer = Peer { remote: address("127.0.0.1:999"), local: address("127.0.0.1:8080"), tls: false };
        let trusted: [IpNet; 1] = ["127.0.0.1/32".parse().expect("a network")];
        let mut headers = HeaderMap::new();
        let direct = RequestOrigin::identify(peer, &headers, &[]).expect("identifies");
        assert_eq!(direct.judge(NeighbourCheck::Unchecked), NeighbourCheck::Unchecked);
        assert!(RequestOrigin::identify(peer, &headers, &trusted).is_err(), "the proxy names no client");

        headers.insert("x-forwarded-for", "10.99.0.7".parse().expect("a value"));
        let proxied = RequestOrigin::identify(peer, &headers, &[]).expect("identifies");
        assert_eq!(
            proxied.judge(NeighbourCheck::Unchecked),
            NeighbourCheck::Proxied { address: peer.remote.ip() }
        );
        // The header of another host changes nothing: its address decides.
        let routed = NeighbourCheck::Routed { address: peer.remote.ip() };
        assert_eq!(proxied.judge(routed.clone()), routed);

        let client = RequestOrigin::identify(peer, &headers, &trusted).expect("identifies");
        assert_eq!(client.peer.remote, address("10.99.0.7:0"));
        assert_eq!(client.judge(NeighbourCheck::Unchecked), NeighbourCheck::Unchecked);
    }
}
