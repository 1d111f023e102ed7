//! Canonical form of file names as firmware sends them.
//!
//! A name has passed through a DHCP option, the ROM and a request packet. The canonical form lets a
//! [`FileSource`](super::FileSource) compare names byte by byte. The boot listener applies it to paths too, since
//! option 67 also carries URLs. This module does not touch a file system; `..` is rejected all the same, so that no file
//! source can be tricked by it.
//!
//! Invariant: a canonical name is not empty and contains no back-slash and no NUL. It has no leading, trailing or
//! double slash, and no `.` or `..` part.

/// Returns the canonical form of a name, or `None` if the name is invalid.
///
/// * `\` becomes `/`: Windows deployment habits.
/// * Leading slashes are removed: iPXE omits a slash that other clients send.
/// * The name ends at the first byte 0xFF, and trailing control bytes and bytes from 0x80 are removed. UEFI and PXE
///   clients of several makers (Intel, Realtek, 3Com, Lenovo) copy the name from DHCP option 67 with the bytes after
///   it, see <https://github.com/netbootxyz/netboot.xyz/issues/1198>.
pub fn canonicalize(raw: &[u8]) -> Option<Vec<u8>> {
    let text = raw.split(|&byte| byte == 0xff || byte == 0).next().unwrap_or_default();
    let end = text.iter().rposition(|byte| matches!(byte, b' '..=b'~')).map_or(0, |last| last + 1);
    let (text, _) = text.split_at(end);
    let mut name = Vec::with_capacity(text.len());
    for part in text.split(|byte| matches!(byte, b'/' | b'\\')) {
        match part {
            b"" | b"." => {}
            b".." => return None,
            part => {
                if !name.is_empty() {
                    name.push(b'/');
                }
                name.extend_from_slice(part);
            }
        }
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(raw: &[u8]) -> Option<String> {
        canonicalize(raw).map(|name| String::from_utf8_lossy(&name).into_owned())
    }

    #[test]
    fn names_end_at_the_first_0xff_and_back_slashes_become_slashes() {
        assert_eq!(text(b"ipxe.efi\xff").as_deref(), Some("ipxe.efi"));
        assert_eq!(text(b"ipxe.efi\xffleftover.bin").as_deref(), Some("ipxe.efi"));
        assert_eq!(text(b"boot\\x64\\ipxe.efi").as_deref(), Some("boot/x64/ipxe.efi"));
    }

    #[test]
    fn leading_slashes_are_stripped() {
        assert_eq!(text(b"///ipxe.efi").as_deref(), Some("ipxe.efi"));
        assert_eq!(text(b"\\ipxe.efi").as_deref(), Some("ipxe.efi"));
        assert_eq!(text(b"./a//b/./c/").as_deref(), Some("a/b/c"));
    }

    #[test]
    fn trailing_bytes_outside_ascii_are_removed() {
        assert_eq!(text(b"ipxe.efi\x80\x99").as_deref(), Some("ipxe.efi"));
        assert_eq!(text(b"ipxe.efi\r\n").as_deref(), Some("ipxe.efi"));
        assert_eq!(text(b"ipxe.efi\0").as_deref(), Some("ipxe.efi"));
        assert_eq!(text("bücher.efi".as_bytes()).as_deref(), Some("bücher.efi"));
    }

    #[test]
    fn a_name_never_leaves_the_root() {
        assert_eq!(text(b"../etc/passwd"), None);
        assert_eq!(text(b"a/..\\..\\b"), None);
        assert_eq!(text(b"a..b/..c").as_deref(), Some("a..b/..c"));
    }

    #[test]
    fn a_name_without_a_part_is_invalid() {
        for raw in [&b""[..], b"/", b"\\\\", b".", b"\xff\xff", b"\x01"] {
            assert_eq!(canonicalize(raw), None, "{raw:?}");
        }
    }
}
