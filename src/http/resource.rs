//! [`BootResource`]: what the path of a machine's request names.
//!
//! The same rules as for TFTP apply, because a DHCP option carries either kind of name: a doubled or leading slash, a
//! backslash, a folder, the case of the letters and bytes after the name do not matter. iPXE resolves the relative URLs
//! of a script against the script's own, so a folder before `boot.ipxe` comes back before `boot/<mac>`.

use percent_encoding::percent_decode_str;

use crate::images::BootFile;
use crate::model::excerpt;
use crate::tftp::canonicalize_name;

/// The folder of boot requests and boot reports.
const BOOT_FOLDER: &str = "boot";
/// The last part of a boot report's path.
const REPORT: &str = "event";
/// The last part of the path for the operating system's own request.
const RECORDED_BOOT: &str = "os";
/// Extensions of files that firmware requests. Other names are no trace of a boot.
const BOOT_EXTENSIONS: [&str; 5] = [".efi", ".kpxe", ".pxe", ".ipxe", ".0"];

/// The resource that a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BootResource {
    /// `boot.ipxe` or `autoexec.ipxe`, or an iPXE binary: `images/<name>`.
    File(BootFile),
    /// `boot/<mac>`: the boot script of a machine. The address is as sent, and empty if the path has none.
    BootScript { address: String },
    /// `boot/<mac>/event`: a boot report.
    BootReport { address: String },
    /// `boot/<mac>/os`: what was recorded at the machine's boot, for its operating system.
    RecordedBoot { address: String },
    /// No resource.
    Unknown {
        /// The last part of the path, shortened, if it looks like a file that firmware requests.
        boot_file: Option<String>,
    },
}

impl BootResource {
    /// The resource of a path, which may be percent-encoded.
    pub(super) fn from_path(path: &str) -> Self {
        let raw: Vec<u8> = percent_decode_str(path).collect();
        let Some(name) = canonicalize_name(&raw) else { return Self::Unknown { boot_file: None } };
        if let Some(file) = BootFile::from_path(&name) {
            return Self::File(file);
        }
        let name = String::from_utf8_lossy(&name);
        let parts: Vec<_> = name.split('/').collect();
        let boot_folder = parts.iter().rposition(|part| part.eq_ignore_ascii_case(BOOT_FOLDER));
        match boot_folder.map(|at| &parts[at + 1..]) {
            Some([address @ .., last]) if last.eq_ignore_ascii_case(REPORT) => {
                Self::BootReport { address: address.join("/") }
            }
            Some([address @ .., last]) if last.eq_ignore_ascii_case(RECORDED_BOOT) => {
                Self::RecordedBoot { address: address.join("/") }
            }
            // A setting that was not expanded, such as `${net0/mac}`, has a slash of its own.
            Some(address) => Self::BootScript { address: address.join("/") },
            None => {
                let is_boot_file = |name: &&&str| {
                    let name = name.to_ascii_lowercase();
                    BOOT_EXTENSIONS.iter().any(|extension| name.ends_with(extension))
                };
                Self::Unknown { boot_file: parts.last().filter(is_boot_file).map(|name| excerpt(name)) }
            }
        }
    }

    /// Whether iPXE executes the response: then a rejection is a script as well.
    pub(super) fn is_script(&self) -> bool {
        match self {
            Self::File(BootFile::BootScript | BootFile::Autoexec) | Self::BootScript { .. } => true,
            Self::File(BootFile::Image(_))
            | Self::BootReport { .. }
            | Self::RecordedBoot { .. }
            | Self::Unknown { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MAX_EXCERPT;

    fn boot_script(address: &str) -> BootResource {
        BootResource::BootScript { address: address.to_owned() }
    }

    #[test]
    fn files_are_found_by_their_last_part() {
        for path in ["/boot.ipxe", "//boot.ipxe", "/BOOT.IPXE", "/tftpboot/boot.ipxe", "/boot/boot.ipxe"] {
            assert_eq!(BootResource::from_path(path), BootResource::File(BootFile::BootScript), "{path}");
        }
        for path in [
            "/images/snponly.efi",
            "/images//snponly.efi",
            "/snponly.efi",
            "/IMAGES/SNPONLY.EFI",
            "/images%5Csnponly.efi",
            "/images/snponly.efi%ff%ff",
            "/snponly.efi.0",
            "/boot/snponly.efi",
        ] {
            assert_eq!(
                BootResource::from_path(path),
                BootResource::File(BootFile::Image("snponly.efi")),
                "{path}"
            );
        }
        assert_eq!(BootResource::from_path("/images/autoexec.ipxe"), BootResource::File(BootFile::Autoexec));
    }

    #[test]
    fn boot_requests_and_reports_may_have_folders_before_them() {
        let mac = "52-54-00-00-00-01";
        for folder in ["/", "//", "/tftpboot/", "/BOOT/", "/a//b/"] {
            assert_eq!(BootResource::from_path(&format!("{folder}boot/{mac}")), boot_script(mac), "{folder}");
            assert_eq!(
                BootResource::from_path(&format!("{folder}boot/{mac}/event")),
                BootResource::BootReport { address: mac.into() },
                "{folder}"
            );
            assert_eq!(
                BootResource::from_path(&format!("{folder}boot/{mac}/os")),
                BootResource::RecordedBoot { address: mac.into() },
                "{folder}"
            );
        }
        assert_eq!(
            BootResource::from_path("/boot/52%3A54%3a00%3A00%3A00%3A01"),
            boot_script("52:54:00:00:00:01")
        );
        for path in ["/boot", "/boot/", "/boot//", "/boot/%ff"] {
            assert_eq!(BootResource::from_path(path), boot_script(""), "{path}");
        }
        assert_eq!(
            BootResource::from_path("/boot//event"),
            BootResource::BootReport { address: String::new() }
        );
        for path in ["/boot/${net0/mac}", "/boot/$%7Bnet0/mac%7D"] {
            assert_eq!(BootResource::from_path(path), boot_script("${net0/mac}"), "{path}");
        }
        let report = BootResource::from_path("/boot/${net0/mac}/event");
        assert_eq!(report, BootResource::BootReport { address: "${net0/mac}".into() });
    }

    #[test]
    fn other_paths_name_no_resource() {
        for path in ["/", "/v1/nodes", "/favicon.ico", "/images/shadow", "/../boot.ipxe", "/booting/x"] {
            assert_eq!(BootResource::from_path(path), BootResource::Unknown { boot_file: None }, "{path}");
        }
        let boot_file = Some("bootx64.EFI".to_owned());
        assert_eq!(BootResource::from_path("/efi/bootx64.EFI"), BootResource::Unknown { boot_file });
        let BootResource::Unknown { boot_file: Some(name) } =
            BootResource::from_path(&format!("/{}.efi", "x".repeat(9999)))
        else {
            panic!("is a name of a boot file")
        };
        assert_eq!(name.len(), MAX_EXCERPT);
    }
}
