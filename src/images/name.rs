//! [`BootFile`]: the file that a requested name means, over TFTP and HTTP alike.
//!
//! The last part of the name decides, whatever its case: DHCP configurations keep the folder of another boot server
//! (`/tftpboot/undionly.kpxe`), and iPXE searches for `autoexec.ipxe` in several folders.

use super::SPECS;

/// Names of the generated script. DHCP may name the first. Newer iPXE requests the second by itself, in the directory
/// of its own binary and in the parent directories.
const BOOT_SCRIPT: &str = "boot.ipxe";
const AUTOEXEC: &str = "autoexec.ipxe";

/// The layer number of the boot file in a PXE boot menu (PXE 2.1, `PXE_BOOT_ITEM`). dnsmasq's `pxe-service` appends it:
/// older versions to each name, newer ones to a name without an extension, such as `undionly`.
const BOOT_LAYER: &[u8] = b".0";

/// A file that machines request by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootFile {
    /// `boot.ipxe`: the generated script that collects the machine's facts.
    BootScript,
    /// `autoexec.ipxe`: the same script for an iPXE that has not used DHCP yet.
    Autoexec,
    /// An iPXE binary, by the name it is served under. The host may lack it.
    Image(&'static str),
}

impl BootFile {
    /// The file that a path with `/` as separator means. `None` if its last part is no known name.
    pub fn from_path(path: &[u8]) -> Option<Self> {
        let requested = path.rsplit(|byte| *byte == b'/').next()?;
        let name = requested.strip_suffix(BOOT_LAYER).unwrap_or(requested);
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is(BOOT_SCRIPT) {
            return Some(Self::BootScript);
        }
        if is(AUTOEXEC) {
            return Some(Self::Autoexec);
        }
        let image = SPECS.iter().map(|spec| spec.name).find(|known| is(known));
        let by_stem = || {
            let mut images = SPECS.iter().map(|spec| spec.name).filter(|known| is(stem(known)));
            // `ipxe.0` could be a binary for BIOS or for UEFI.
            images.next().filter(|_| name != requested && images.next().is_none())
        };
        image.or_else(by_stem).map(Self::Image)
    }
}

/// A name without its extension.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_path(path: &str) -> Option<BootFile> {
        BootFile::from_path(path.as_bytes())
    }

    #[test]
    fn last_part_decides_whatever_its_case() {
        for path in ["boot.ipxe", "a/b/boot.ipxe", "BOOT.IPXE", "boot.ipxe.0"] {
            assert_eq!(from_path(path), Some(BootFile::BootScript), "{path}");
        }
        for path in ["autoexec.ipxe", "x86_64/AUTOEXEC.IPXE"] {
            assert_eq!(from_path(path), Some(BootFile::Autoexec), "{path}");
        }
        for path in [
            "undionly.kpxe",
            "tftpboot/undionly.kpxe",
            "ipxe/UNDIONLY.KPXE",
            "undionly.kpxe.0",
            "pxe/undionly.kpxe.0",
            "undionly.0",
        ] {
            assert_eq!(from_path(path), Some(BootFile::Image("undionly.kpxe")), "{path}");
        }
        assert_eq!(
            BootFile::from_path(b"b\xfccher/snponly.efi"),
            Some(BootFile::Image("snponly.efi")),
            "a folder need not be UTF-8"
        );
    }

    #[test]
    fn other_names_mean_no_file() {
        for path in [
            "",
            "/",
            "boot.ipxe/x",
            "undionly.kpxe.1",
            "undionly.kpxe.0.0",
            "undionly",
            "ipxe.0",
            "pxelinux.0",
        ] {
            assert_eq!(from_path(path), None, "{path}");
        }
    }
}
