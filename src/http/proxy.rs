//! Finds the client of a reverse proxy in the headers that the proxy adds: `X-Forwarded-For`, and `Forwarded`
//! (RFC 7239).
//!
//! Each proxy appends the address of its own client, so the last address that is not a trusted proxy's is the client.
//! Earlier ones are the client's claim. A proxy that sets one of the headers passes the other through, so the headers
//! must agree if both are there.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

/// Headers that show that a proxy has forwarded a request.
const FORWARDING_HEADERS: [&str; 6] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via"];
/// The most addresses of a header that are read.
const MAX_HOPS: usize = 16;

/// A trusted proxy does not name its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("the proxy {0} names no client; let it set X-Forwarded-For")]
    NoClient(IpAddr),
    #[error(
        "Forwarded and X-Forwarded-For of the proxy {0} name different clients; let it remove one of them"
    )]
    Contradiction(IpAddr),
}

/// Whether a proxy has forwarded the request.
pub(super) fn has_forwarding_header(headers: &HeaderMap) -> bool {
    FORWARDING_HEADERS.iter().any(|name| headers.contains_key(*name))
}

/// Finds the client of the trusted `proxy`.
pub(super) fn find_client(
    proxy: IpAddr,
    headers: &HeaderMap,
    trusted: &[IpNet],
) -> Result<IpAddr, ProxyError> {
    let clients =
        [hops(headers, "x-forwarded-for", |element| Some(element)), hops(headers, "forwarded", node_of)]
            .map(|hops| hops.map(|hops| last_client(&hops, trusted)));
    match clients {
        [Some(Some(first)), Some(Some(second))] if first != second => Err(ProxyError::Contradiction(proxy)),
        [Some(Some(client)), Some(Some(_)) | None] | [None, Some(Some(client))] => Ok(client),
        [Some(None), _] | [_, Some(None)] | [None, None] => Err(ProxyError::NoClient(proxy)),
    }
}

/// The last address that is not a trusted proxy's, or the first if all are. `None` if an address before is no address.
fn last_client(hops: &[Option<IpAddr>], trusted: &[IpNet]) -> Option<IpAddr> {
    for hop in hops.iter().rev() {
        let hop = (*hop)?;
        if !trusted.iter().any(|network| network.contains(&hop)) {
            return Some(hop);
        }
    }
    hops.first().copied().flatten()
}

/// The addresses in all lines of a header, the last ones of many. `None` without the header.
fn hops(
    headers: &HeaderMap,
    name: &str,
    node_of: impl Fn(&str) -> Option<&str>,
) -> Option<Vec<Option<IpAddr>>> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    let elements: Vec<_> = lines.iter().flat_map(|line| line.split(',')).collect();
    let last = &elements[elements.len().saturating_sub(MAX_HOPS)..];
    let hops: Vec<_> = last.iter().map(|element| node_of(element).and_then(parse_node)).collect();
    (!hops.is_empty()).then_some(hops)
}

/// The parameter `for` of an element of `Forwarded`.
fn node_of(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for")).map(|(_, value)| value)
}

/// Parses an address, with or without a port, brackets and quotes.
fn parse_node(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    address.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn find(headers: &[(&'static str, &str)]) -> Result<String, ProxyError> {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
        });
        let mut map = HeaderMap::new();
        headers.for_each(|(name, value)| _ = map.append(name, value));
        let trusted = ["127.0.0.1/32", "10.0.0.0/24"].map(|network| network.parse().expect("a network"));
        find_client(PROXY, &map, &trusted).map(|client| client.to_string())
    }

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn last_address_that_is_no_trusted_proxy_is_the_client() {
        const XFF: &str = "x-forwarded-for";
        for (headers, client) in [
            (&[(XFF, "10.99.0.7")][..], "10.99.0.7"),
            (&[(XFF, "10.99.0.7:1024")], "10.99.0.7"),
            (&[(XFF, "::ffff:10.99.0.7")], "10.99.0.7"),
            (&[(XFF, "[fd00::7]:1024")], "fd00::7"),
            (&[(XFF, "fd00::7")], "fd00::7"),
            // The client's own claim comes first.
            (&[(XFF, "192.0.2.1, 10.99.0.7")], "10.99.0.7"),
            (&[(XFF, "nonsense, 10.99.0.7")], "10.99.0.7"),
            (&[(XFF, "192.0.2.1"), (XFF, "10.99.0.7")], "10.99.0.7"),
            // A second trusted proxy.
            (&[(XFF, "192.0.2.1, 10.99.0.7, 10.0.0.3")], "10.99.0.7"),
            (&[(XFF, "127.0.0.1")], "127.0.0.1"),
            (&[("forwarded", "for=10.99.0.7;proto=http")], "10.99.0.7"),
            (&[("forwarded", "for=192.0.2.1, proto=http;For=\"[fd00::7]:80\"")], "fd00::7"),
            (&[(XFF, "10.99.0.7"), ("forwarded", "for=10.99.0.7")], "10.99.0.7"),
        ] {
            assert_eq!(find(headers).as_deref(), Ok(client), "{headers:?}");
        }
    }

    #[test]
    fn proxy_that_names_no_client_or_two_is_an_error() {
        for headers in [
            &[][..],
            &[("x-forwarded-for", "")],
            &[("x-forwarded-for", "unknown")],
            &[("x-forwarded-for", "10.99.0.7, unknown")],
            &[("x-forwarded-for", "10.99.0.7"), ("forwarded", "for=unknown")],
            &[("forwarded", "proto=https")],
            &[("x-forwarded-host", "10.99.0.7")],
        ] {
            assert_eq!(find(headers), Err(ProxyError::NoClient(PROXY)), "{headers:?}");
        }
        // The proxy sets one header; the client forged the other.
        let headers = [("x-forwarded-for", "10.99.0.8"), ("forwarded", "for=10.99.0.7")];
        assert_eq!(find(&headers), Err(ProxyError::Contradiction(PROXY)));
    }
}
