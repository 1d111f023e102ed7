//! The location of a volume in the storage network: [`Portal`], [`Lun`], [`SanUri`], and [`LoaderPath`].

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::Iqn;

/// The default TCP port of iSCSI targets (RFC 7143 §13.1).
const ISCSI_PORT: u16 = 3260;

/// A target's network portal: a TCP port on an address, or on a DNS name that iPXE resolves.
///
/// Parses `192.0.2.1:3260`, `192.0.2.1`, `san.example.org:3260`, `[2001:db8::1]:3260` and the bare `2001:db8::1`.
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

/// The text is not a portal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected ADDRESS:PORT, such as 192.0.2.1:3260 or [2001:db8::1]:3260")]
pub struct PortalError;

impl Portal {
    /// Whether the address is IPv6. iPXE's iBFT for the operating system holds IPv4 portals only.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.host, Host::Ip(IpAddr::V6(_)))
    }
}

impl FromStr for Portal {
    type Err = PortalError;

    fn from_str(text: &str) -> Result<Self, PortalError> {
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Ip(address.into()), port: ISCSI_PORT });
        }
        if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(PortalError)?;
            let address = address.parse::<Ipv6Addr>().map_err(|_| PortalError)?;
            let port = match port.strip_prefix(':') {
                Some(port) => parse_port(port)?,
                None if port.is_empty() => ISCSI_PORT,
                None => return Err(PortalError),
            };
            return Ok(Self { host: Host::Ip(address.into()), port });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, parse_port(port)?),
            None => (text, ISCSI_PORT),
        };
        let host = match host.parse::<IpAddr>() {
            Ok(address) => Host::Ip(address),
            Err(_) if is_dns_name(host) => Host::Name(host.to_owned()),
            Err(_) => return Err(PortalError),
        };
        Ok(Self { host, port })
    }
}

fn parse_port(text: &str) -> Result<u16, PortalError> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PortalError);
    }
    text.parse().ok().filter(|port| *port != 0).ok_or(PortalError)
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
        match &self.host {
            Host::Ip(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            Host::Ip(address) => write!(f, "{address}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// A logical unit number, an integer as in Cinder and Linux.
///
/// Prints in iPXE's format: hexadecimal 16-bit groups, the low group first, joined by `-` (RFC 4173 §5). Ironic once
/// printed a decimal number, and every LUN above 9 failed (LP 2055355).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lun(u64);

/// The text is not a LUN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a LUN: a whole number of zero or more")]
pub struct LunError;

impl Lun {
    /// The LUN with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The LUN's number.
    pub const fn number(self) -> u64 {
        self.0
    }

    /// Parses iPXE's format.
    fn from_groups(text: &str) -> Option<Self> {
        let mut number = 0;
        for (at, group) in text.split('-').enumerate() {
            let fits =
                at < 4 && (1..=4).contains(&group.len()) && group.bytes().all(|b| b.is_ascii_hexdigit());
            let group = u64::from_str_radix(group, 16).ok().filter(|_| fits)?;
            number |= group << (16 * at);
        }
        Some(Self(number))
    }
}

impl FromStr for Lun {
    type Err = LunError;

    fn from_str(text: &str) -> Result<Self, LunError> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(LunError);
        }
        text.parse().map(Self).map_err(|_| LunError)
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0 & 0xffff)?;
        let mut rest = self.0 >> 16;
        while rest != 0 {
            write!(f, "-{:x}", rest & 0xffff)?;
            rest >>= 16;
        }
        Ok(())
    }
}

/// A path to a volume, in iPXE's form `iscsi:<server>::<port>:<LUN>:<target name>` (after RFC 4173 §5).
///
/// The protocol field stays empty: iPXE ignores it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SanUri {
    /// The target's portal.
    pub portal: Portal,
    /// The volume's LUN at the target.
    pub lun: Lun,
    /// The target's name.
    pub target: Iqn,
}

/// The text is not an iSCSI path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected iscsi:SERVER::PORT:LUN:NAME, such as iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1"
)]
pub struct SanUriError;

impl FromStr for SanUri {
    type Err = SanUriError;

    /// Protocol, port and LUN are optional, as in iPXE.
    fn from_str(text: &str) -> Result<Self, SanUriError> {
        let rest = text.strip_prefix("iscsi:").ok_or(SanUriError)?;
        // An IPv6 address contains colons itself.
        let (server, rest) = match rest.find(']') {
            Some(end) if rest.starts_with('[') => rest.split_at(end + 1),
            _ => rest.split_at(rest.find(':').ok_or(SanUriError)?),
        };
        let mut fields = rest.strip_prefix(':').ok_or(SanUriError)?.splitn(4, ':');
        let (Some(protocol), Some(port), Some(lun), Some(target)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(SanUriError);
        };
        if !matches!(protocol, "" | "6" | "TCP" | "tcp") {
            return Err(SanUriError);
        }
        let portal = if port.is_empty() { server.to_owned() } else { format!("{server}:{port}") };
        let lun = if lun.is_empty() { Some(Lun::new(0)) } else { Lun::from_groups(lun) };
        Ok(Self {
            portal: portal.parse().map_err(|_| SanUriError)?,
            lun: lun.ok_or(SanUriError)?,
            target: target.parse().map_err(|_| SanUriError)?,
        })
    }
}

impl fmt::Display for SanUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.portal.port;
        match &self.portal.host {
            // Without the brackets, iPXE splits the address at the colons.
            Host::Ip(IpAddr::V6(address)) => {
                write!(f, "iscsi:[{address}]::{port}:{}:{}", self.lun, self.target)
            }
            Host::Ip(address) => write!(f, "iscsi:{address}::{port}:{}:{}", self.lun, self.target),
            Host::Name(name) => write!(f, "iscsi:{name}::{port}:{}:{}", self.lun, self.target),
        }
    }
}

/// The boot loader's file on the volume's EFI system partition, such as `\EFI\debian\shimx64.efi`.
///
/// Slashes become backslashes. Spaces are refused: iPXE has no quoting, so an argument cannot contain a space.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LoaderPath(String);

/// The text is not the path of a file that iPXE can start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(r"expected the path of an EFI program without spaces, such as \EFI\debian\shimx64.efi")]
pub struct LoaderPathError;

impl FromStr for LoaderPath {
    type Err = LoaderPathError;

    fn from_str(text: &str) -> Result<Self, LoaderPathError> {
        let path = text.replace('/', "\\");
        let path = if path.starts_with('\\') { path } else { format!("\\{path}") };
        let name = |name: &str| {
            !name.is_empty()
                && name != ".."
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+'))
        };
        // The length limit of a FAT path (Microsoft's FAT specification) also limits the script's size.
        if path.len() <= 260 && path.split('\\').skip(1).all(name) {
            Ok(Self(path))
        } else {
            Err(LoaderPathError)
        }
    }
}

impl fmt::Display for LoaderPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(portal: &str, lun: u64) -> String {
        SanUri {
            portal: portal.parse().expect("a portal"),
            lun: Lun::new(lun),
            target: "iqn.2010-10.org.openstack:volume-1".parse().expect("a name"),
        }
        .to_string()
    }

    #[test]
    fn prints_a_path_in_ipxe_syntax() {
        assert_eq!(uri("192.0.2.1:3261", 1), "iscsi:192.0.2.1::3261:1:iqn.2010-10.org.openstack:volume-1");
        assert_eq!(uri("192.0.2.1", 0), "iscsi:192.0.2.1::3260:0:iqn.2010-10.org.openstack:volume-1");
        assert_eq!(
            uri("san.example.org:1", 2),
            "iscsi:san.example.org::1:2:iqn.2010-10.org.openstack:volume-1"
        );
    }

    #[test]
    fn prints_an_ipv6_portal_in_brackets() {
        for portal in ["[2001:db8::1]:3260", "[2001:db8::1]", "2001:db8::1"] {
            assert_eq!(
                uri(portal, 1),
                "iscsi:[2001:db8::1]::3260:1:iqn.2010-10.org.openstack:volume-1",
                "{portal}"
            );
        }
    }

    #[test]
    fn parses_its_own_output() {
        for text in [
            "iscsi:192.0.2.1::3261:1:iqn.2010-10.org.openstack:volume-1",
            "iscsi:san.example.org::1:4000-1:iqn.2010-10.org.openstack:a:b",
            "iscsi:[2001:db8::1]::3260:ffff-ffff-ffff-ffff:iqn.2010-10.org.openstack:volume-1",
        ] {
            assert_eq!(text.parse::<SanUri>().map(|uri| uri.to_string()).as_deref(), Ok(text));
        }
        let short = "iscsi:192.0.2.1::::iqn.2010-10.org.openstack:volume-1".parse::<SanUri>();
        assert_eq!(short.map(|uri| uri.to_string()), Ok(uri("192.0.2.1", 0)));
        for text in [
            "",
            "iscsi:",
            "iscsi:192.0.2.1",
            "iscsi:192.0.2.1:::1",
            "iscsi:192.0.2.1::3260:1:disk",
            "iscsi:192.0.2.1:17:3260:1:iqn.2010-10.org.example:a",
            "iscsi:192.0.2.1::0:1:iqn.2010-10.org.example:a",
            "iscsi:192.0.2.1::3260:10000:iqn.2010-10.org.example:a",
            "iscsi:192.0.2.1::3260:1-:iqn.2010-10.org.example:a",
            "iscsi:192.0.2.1::3260:1-1-1-1-1:iqn.2010-10.org.example:a",
            "iscsi:[2001:db8::1::3260:1:iqn.2010-10.org.example:a",
            "http:192.0.2.1::3260:1:iqn.2010-10.org.example:a",
        ] {
            assert_eq!(text.parse::<SanUri>(), Err(SanUriError), "{text}");
        }
    }

    #[test]
    fn prints_a_lun_as_hexadecimal_16_bit_groups_low_first() {
        for (number, text) in [(0, "0"), (10, "a"), (255, "ff"), (256, "100"), (0x1_4000, "4000-1")] {
            assert_eq!(Lun::new(number).to_string(), text);
        }
        assert_eq!(Lun::new(u64::MAX).to_string(), "ffff-ffff-ffff-ffff");
    }

    #[test]
    fn refuses_invalid_portals() {
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
            "host:1:2",
            "-a:1",
            "${x}:1",
            "host\n:1",
            "2001:db8::1:3260:1:2:3:4",
        ] {
            assert_eq!(text.parse::<Portal>(), Err(PortalError), "{text:?}");
        }
    }

    #[test]
    fn a_loader_path_is_absolute_with_plain_names() {
        for text in [r"\EFI\debian\shimx64.efi", "/EFI/debian/shimx64.efi", "EFI/debian/shimx64.efi"] {
            assert_eq!(
                text.parse::<LoaderPath>().map(|p| p.to_string()),
                Ok(r"\EFI\debian\shimx64.efi".to_owned())
            );
        }
        for text in ["", "/", r"\EFI\my loader.efi", r"\EFI\..\x.efi", "\\EFI\\${x}.efi", "\\EFI\\", "a\nb"] {
            assert_eq!(text.parse::<LoaderPath>(), Err(LoaderPathError), "{text:?}");
        }
    }
}
