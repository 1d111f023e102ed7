//! The location of a boot loader: [`SanUri`], the path to its volume, and [`LoaderPath`], its file.

use std::fmt;
use std::str::FromStr;

use super::{Lun, Portal, TargetName};

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
    pub target: TargetName,
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
        if !matches!(protocol, "" | "6" | "TCP" | "tcp") || begins_with_field(target) {
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

/// Whether a target name begins with another field, because a colon is missing or there is one too many.
///
/// An IPv6 address without brackets is such a case: `iscsi:fd03::1::3260:1:disk` has server `fd03` and name
/// `3260:1:disk`.
fn begins_with_field(target: &str) -> bool {
    target.split_once(':').is_some_and(|(first, _)| first.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl fmt::Display for SanUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { portal, lun, target } = self;
        write!(f, "iscsi:{}::{}:{lun}:{target}", portal.host(), portal.port())
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
            "iscsi:192.0.2.1::3260:0:target.inspur.web-1-04711",
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
            "iscsi:192.0.2.1::3260:1:",
            "iscsi:192.0.2.1::3260:1:disk 1",
            "iscsi:192.0.2.1::3260:iqn.2010-10.org.example:a",
            "iscsi:192.0.2.1:::3260:1:iqn.2010-10.org.example:a",
            "iscsi:fd03::1::3260:1:iqn.2010-10.org.example:a",
            "iscsi:fd03::1:2::3260:1:disk",
            "iscsi:fd03::1:2:3::3260:1:disk",
            "iscsi:fd03::::3260:1:disk",
            "iscsi:2001:db8::1::3260:1:disk",
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
