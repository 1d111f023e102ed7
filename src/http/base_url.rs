//! The base URL of `autoexec.ipxe`: how the machine reached volboot.
//!
//! The script of `/boot.ipxe` has relative URLs, which iPXE resolves against the script's own. An iPXE that runs
//! `autoexec.ipxe` may have lost that URL after DHCP, so the script needs an absolute one. The connection's local
//! address is not always reachable for the machine: behind a proxy, a load balancer or address translation, only the
//! request names the right host.
//!
//! A requester can only change its own script. The character set is restricted, because the URL becomes part of it.

use std::net::SocketAddr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use crate::listen::Peer;

/// The folder of iPXE binaries. A binary that was loaded from this folder requests `autoexec.ipxe` in it too.
const IMAGE_FOLDER: &str = "images/";

/// The base URL for the requester, with a slash at the end.
///
/// The host is that of the proxy's headers (RFC 7239, `X-Forwarded-*`), else of the request (RFC 9112 §3.2), else the
/// local address. A folder before the script's name stays, as in a relative URL.
pub(super) fn build_base_url(uri: &Uri, headers: &HeaderMap, peer: Peer) -> String {
    let forwarded = Forwarded::from_headers(headers);
    let requested = || {
        let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
        uri.authority().map(Authority::as_str).or(host).and_then(parse_authority)
    };
    let local = || SocketAddr::new(peer.local.ip().to_canonical(), peer.local.port()).to_string();
    let authority = forwarded.authority.or_else(requested).unwrap_or_else(local);
    let scheme = forwarded.scheme.unwrap_or(if peer.tls { "https" } else { "http" });
    format!("{scheme}://{authority}{}", folder_of(uri.path()))
}

/// The folder of the requested script, with slashes around it.
fn folder_of(path: &str) -> &str {
    let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
    let folder = folder.strip_suffix(IMAGE_FOLDER).unwrap_or(folder);
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'-' | b'_' | b'.');
    if folder.bytes().all(is_plain) && !folder.contains("//") { folder } else { "/" }
}

/// How the requester reached the proxy, by the proxy's headers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Forwarded {
    authority: Option<String>,
    scheme: Option<&'static str>,
}

impl Forwarded {
    fn from_headers(headers: &HeaderMap) -> Self {
        // With several proxies, the first element of a list is that of the outermost.
        let first = |name| {
            let value = headers.get(name)?.to_str().ok()?;
            value.split(',').next().map(str::trim)
        };
        let pairs: Vec<_> = first("forwarded").into_iter().flat_map(|element| element.split(';')).collect();
        let pair = |key: &str| {
            let mut pairs = pairs.iter().filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(name, _)| name.trim().eq_ignore_ascii_case(key))
                .map(|(_, value)| value.trim().trim_matches('"'))
        };
        let host = pair("host").or_else(|| first("x-forwarded-host")).and_then(parse_authority);
        let port = || first("x-forwarded-port")?.parse::<u16>().ok();
        let authority = host.map(|host| match port() {
            Some(port) if !has_port(&host) => format!("{host}:{port}"),
            _ => host,
        });
        let scheme = pair("proto").or_else(|| first("x-forwarded-proto")).and_then(|scheme| {
            ["http", "https"].into_iter().find(|known| known.eq_ignore_ascii_case(scheme))
        });
        Self { authority, scheme }
    }
}

/// Parses a host with an optional port. The host is a name, an IPv4 address, or an IPv6 address in brackets.
fn parse_authority(text: &str) -> Option<String> {
    let authority: Authority = text.parse().ok()?;
    let host = authority.host();
    let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let is_host = match host.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => (1..=253).contains(&host.len()) && host.bytes().all(is_name),
    };
    // `Authority` also accepts a user name, and a port that is no number.
    let is_number = |port: &str| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    let is_plain = match text.strip_prefix(host)? {
        "" => true,
        port => port.strip_prefix(':').is_some_and(is_number),
    };
    (is_host && is_plain).then(|| text.to_owned())
}

fn has_port(authority: &str) -> bool {
    !authority.ends_with(']') && authority.contains(':')
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    /// The base URL of a request to 192.168.0.1:8080, without TLS.
    fn build(path: &str, headers: &[(&'static str, &str)]) -> String {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header value"))
        });
        let address = |text: &str| text.parse().expect("an address");
        let peer = Peer {
            remote: address("192.168.0.7:1024"),
            local: address("[::ffff:192.168.0.1]:8080"),
            tls: false,
        };
        build_base_url(&path.parse().expect("a URI"), &headers.collect(), peer)
    }

    #[test]
    fn host_of_the_request_wins_over_the_local_address() {
        let path = "/autoexec.ipxe";
        assert_eq!(build(path, &[]), "http://192.168.0.1:8080/");
        for host in
            ["boot.example.org:8080", "boot.example.org", "192.0.2.9:80", "[2001:db8::1]:8080", "boot_1"]
        {
            assert_eq!(build(path, &[("host", host)]), format!("http://{host}/"));
        }
        let absolute = build("http://boot.example.org/autoexec.ipxe", &[("host", "other")]);
        assert_eq!(absolute, "http://boot.example.org/");
    }

    #[test]
    fn host_that_is_no_host_is_ignored() {
        for host in [
            "",
            "a b",
            "user@boot.example.org",
            "boot.example.org:",
            "boot.example.org:0",
            "boot.example.org:65536",
            "boot.example.org:+80",
            "${net0/ip}",
            "b\u{fc}cher",
            "[fe80::1%25eth0]:8080",
            "[2001:db8::1",
            "2001:db8::1",
            "boot/x",
            "boot?x",
            &"x".repeat(300),
        ] {
            let url = build("/autoexec.ipxe", &[("host", host)]);
            assert_eq!(url, "http://192.168.0.1:8080/", "{host}");
        }
    }

    #[test]
    fn headers_of_a_proxy_win() {
        let host = ("host", "10.1.2.3:8080");
        for (headers, expected) in [
            (&[("x-forwarded-host", "boot.example.org")][..], "http://boot.example.org/"),
            (
                &[("x-forwarded-host", "boot.example.org, inner"), ("x-forwarded-proto", "https")],
                "https://boot.example.org/",
            ),
            (
                &[("x-forwarded-host", "boot.example.org"), ("x-forwarded-port", "8443")],
                "http://boot.example.org:8443/",
            ),
            (&[("x-forwarded-host", "[::1]:81"), ("x-forwarded-port", "8443")], "http://[::1]:81/"),
            (
                &[(
                    "forwarded",
                    r#"for=192.0.2.7;host="boot.example.org:81";Proto=HTTPS, for=10.0.0.1;host=inner"#,
                )],
                "https://boot.example.org:81/",
            ),
            (&[("x-forwarded-host", "a b"), ("x-forwarded-proto", "ftp")], "http://10.1.2.3:8080/"),
            (&[("x-forwarded-proto", "https")], "https://10.1.2.3:8080/"),
        ] {
            assert_eq!(build("/autoexec.ipxe", &[&[host], headers].concat()), expected, "{headers:?}");
        }
    }

    #[test]
    fn folder_before_the_script_stays() {
        for (path, folder) in [
            ("/images/autoexec.ipxe", "/"),
            ("/pxe/images/autoexec.ipxe", "/pxe/"),
            ("/pxe/v1.2/autoexec.ipxe", "/pxe/v1.2/"),
            ("//autoexec.ipxe", "/"),
            ("/a$b/autoexec.ipxe", "/"),
        ] {
            assert_eq!(build(path, &[]), format!("http://192.168.0.1:8080{folder}"), "{path}");
        }
    }
}
