//! [`Portal`]: the TCP address of an iSCSI target.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The default TCP port of iSCSI targets (RFC 7143 §13.1).
const ISCSI_PORT: u16 = 3260;

/// A target's network portal: a TCP port on an address, or on a DNS name that iPXE resolves.
///
/// Parses `192.0.2.1:3260`, `192.0.2.1`, `san.example.org:3260`, `[2001:db8::1]:3260` and the bare `2001:db8::1`. A text
/// such as `2001:db8::1:3260` is ambiguous: the last group may be a port, and is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Portal {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl From<Ipv6Addr> for Host {
    /// An IPv4-mapped address is the IPv4 address (Dell SC: `0:0:0:0:0:ffff:c0a8:19`): iPXE has no dual-stack sockets.
    fn from(address: Ipv6Addr) -> Self {
        Self::Ip(address.to_canonical())
    }
}

/// The text is not a portal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortalError {
    /// The text has none of the forms.
    #[error("expected ADDRESS:PORT, such as 192.0.2.1:3260 or [2001:db8::1]:3260")]
    Form,
    /// An IPv6 address without brackets is followed by a number that may be a port.
    #[error("the IPv6 address needs brackets: write [{address}]:{port}{}", describe_bare(.bare.as_ref()))]
    Ambiguous {
        /// The address, if the number is a port.
        address: Ipv6Addr,
        /// The number as port.
        port: u16,
        /// The address, if the number is its last group.
        bare: Option<Ipv6Addr>,
    },
}

/// The other way to read an ambiguous text.
fn describe_bare(address: Option<&Ipv6Addr>) -> String {
    address.map_or_else(String::new, |address| {
        format!(" or, if the number is part of the address, [{address}]:{ISCSI_PORT}")
    })
}

impl Portal {
    /// Parses a portal of Cinder, in the format `HOST:PORT`.
    ///
    /// Many drivers write an IPv6 address without brackets (Storwize: `fd03::546c:3260`), and os-brick splits at the
    /// last colon. So does this function; any other text is parsed as if an operator had written it.
    pub fn parse_host_port(text: &str) -> Result<Self, PortalError> {
        match split_unbracketed(text) {
            Some((address, port)) => Ok(Self { host: address.into(), port }),
            None => text.parse(),
        }
    }

    /// The host in iPXE's form. Without the brackets, iPXE splits an IPv6 address at its colons.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => format!("[{address}]"),
            Host::Ip(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// The TCP port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The host for a connection from this host: an address without brackets, or a name.
    pub fn connect_host(&self) -> String {
        match &self.host {
            Host::Ip(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// The port for a connection from this host.
    pub const fn connect_port(&self) -> u16 {
        self.port
    }

    /// Whether the address is IPv6. iPXE's iBFT for the operating system holds IPv4 portals only.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.host, Host::Ip(IpAddr::V6(_)))
    }
}

impl FromStr for Portal {
    type Err = PortalError;

    fn from_str(text: &str) -> Result<Self, PortalError> {
        let bare = text.parse::<Ipv6Addr>().ok();
        if let Some((address, port)) = split_unbracketed(text) {
            return Err(PortalError::Ambiguous { address, port, bare });
        }
        if let Some(address) = bare {
            return Ok(Self { host: address.into(), port: ISCSI_PORT });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(PortalError::Form)?;
            let address = address.parse::<Ipv6Addr>().map_err(|_| PortalError::Form)?;
            let port = match port.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if port.is_empty() => ISCSI_PORT,
                None => return Err(PortalError::Form),
            };
            return Ok(Self { host: address.into(), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, ISCSI_PORT),
        };
        let host = match host.parse::<IpAddr>() {
            Ok(address) => Host::Ip(address),
            Err(_) if is_dns_name(host) => Host::Name(host.to_owned()),
            Err(_) => return Err(PortalError::Form),
        };
        Ok(Self { host, port })
    }
}

/// Splits a text at its last colon, if an IPv6 address and a port remain. `2001:db8::1` is no such text.
fn split_unbracketed(text: &str) -> Option<(Ipv6Addr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    Some((address.parse().ok()?, parse_port(port).ok()?))
}

fn parse_port(text: &str) -> Result<u16, PortalError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PortalError::Form);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(PortalError::Form)
}

/// Labels of letters, digits and hyphens (RFC 1123 §2.1). The last label must not be all digits: `10.0.0` is a
/// mistyped address, not a name.
fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|b| b.is_ascii_digit())
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<String, String> {
        text.parse::<Portal>().map(|portal| portal.to_string()).map_err(|error| error.to_string())
    }

    fn parse_host_port(text: &str) -> Result<String, PortalError> {
        Portal::parse_host_port(text).map(|portal| portal.to_string())
    }

    #[test]
    fn the_port_is_optional_and_ipv6_is_printed_in_brackets() {
        for (text, portal) in [
            ("192.0.2.1:3261", "192.0.2.1:3261"),
            ("192.0.2.1", "192.0.2.1:3260"),
            ("san.example.org:1", "san.example.org:1"),
            ("[2001:db8::1]:3261", "[2001:db8::1]:3261"),
            ("[2001:db8::1]", "[2001:db8::1]:3260"),
            ("2001:db8::1", "[2001:db8::1]:3260"),
            ("fd03::1:5a6c", "[fd03::1:5a6c]:3260"),
            ("fd03::1:0", "[fd03::1:0]:3260"),
            ("2001:db8:1:2:3:4:5:3260", "[2001:db8:1:2:3:4:5:3260]:3260"),
            ("::ffff:192.0.2.1", "192.0.2.1:3260"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(portal), "{text}");
            assert_eq!(parse_host_port(text).as_deref(), Ok(portal), "{text}");
        }
    }

    #[test]
    fn cinder_s_portals_are_split_at_the_last_colon() {
        for (text, portal) in [
            ("fd03::546c:3260", "[fd03::546c]:3260"),
            ("2001:db8:::3260", "[2001:db8::]:3260"),
            ("2001:db8:1:2:3:4:5:6:3260", "[2001:db8:1:2:3:4:5:6]:3260"),
            ("fe80::1:2:3", "[fe80::1:2]:3"),
            ("::ffff:192.0.2.1:3260", "192.0.2.1:3260"),
            ("0:0:0:0:0:ffff:c0a8:19:3260", "192.168.0.25:3260"),
        ] {
            assert_eq!(parse_host_port(text).as_deref(), Ok(portal), "{text}");
            assert!(matches!(text.parse::<Portal>(), Err(PortalError::Ambiguous { .. })), "{text}");
        }
    }

    #[test]
    fn an_ambiguous_portal_is_refused_with_both_ways_to_write_it() {
        let both = "the IPv6 address needs brackets: write [fd03::546c]:3260 or, if the number is part of the address, \
                    [fd03::546c:3260]:3260";
        assert_eq!(parse("fd03::546c:3260"), Err(both.to_owned()));
        let single = "the IPv6 address needs brackets: write [2001:db8:1:2:3:4:5:6]:3260";
        assert_eq!(parse("2001:db8:1:2:3:4:5:6:3260"), Err(single.to_owned()));
    }

    #[test]
    fn invalid_portals_are_refused() {
        for text in [
            "",
            ":3260",
            "192.0.2.1:",
            "192.0.2.1:0",
            "192.0.2.1:65536",
            "192.0.2.1:+1",
            "10.0.0",
            "a b:1",
            "a_b:1",
            "[2001:db8::1",
            "[2001:db8::1]3260",
            "[192.0.2.1]:3260",
            "2001:db8::1:65536",
            "fe80::1%eth0",
            "host:1:2",
            "-a:1",
            "${x}:1",
            "host\n:1",
            "1:2:3",
            "2001:db8::1:3260:1:2:3:4:5",
        ] {
            assert_eq!(text.parse::<Portal>(), Err(PortalError::Form), "{text:?}");
            assert_eq!(Portal::parse_host_port(text), Err(PortalError::Form), "{text:?}");
        }
    }
}
