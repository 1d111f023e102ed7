//! File names as firmware sends them, made comparable.
//!
//! What arrives went through a DHCP option, a ROM from another decade and a request packet. A pure function, so
//! that whoever keeps the table of files can compare like with like. Nothing here ever meets a file system; `..` is
//! refused all the same, so that no table can be tricked.
//!
//! Invariant: a canonical name is not empty, has no leading, trailing or double slash, no `.` and no `..` part, no
//! back-slash and no NUL.

/// The canonical form of a name; `None` if it can name nothing.
///
/// * `\` is `/`: Windows deployment habits.
/// * Leading slashes go: iPXE leaves one out that other clients send.
/// * The name ends at the first byte 0xFF, and control bytes and bytes from 0x80 at its end go: UEFI and PXE clients of
///   several makers (Intel, Realtek, 3Com, Lenovo) copy the name from DHCP option 67 with whatever stands behind it,
///   see <https://github.com/netbootxyz/netboot.xyz/issues/1198>.
pub(super) fn canonical(raw: &[u8]) -> Option<Vec<u8>> {
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
        canonical(raw).map(|name| String::from_utf8_lossy(&name).into_owned())
    }

    #[test]
    fn names_are_bytes_cut_at_the_first_0xff_and_with_slashes_for_back_slashes() {
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
    fn trailing_bytes_that_are_no_text_are_cut() {
        assert_eq!(text(b"ipxe.efi\x80\x99").as_deref(), Some("ipxe.efi"));
        assert_eq!(text(b"ipxe.efi\r\n").as_deref(), Some("ipxe.efi"));
        assert_eq!(text(b"ipxe.efi\0").as_deref(), Some("ipxe.efi"));
        assert_eq!(text("bücher.efi".as_bytes()).as_deref(), Some("bücher.efi"));
    }

    #[test]
    fn a_name_never_climbs() {
        assert_eq!(text(b"../etc/passwd"), None);
        assert_eq!(text(b"a/..\\..\\b"), None);
        assert_eq!(text(b"a..b/..c").as_deref(), Some("a..b/..c"));
    }

    #[test]
    fn what_names_nothing_is_no_name() {
        for raw in [&b""[..], b"/", b"\\\\", b".", b"\xff\xff", b"\x01"] {
            assert_eq!(canonical(raw), None, "{raw:?}");
        }
    }
}
