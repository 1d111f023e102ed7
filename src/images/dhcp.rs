//! [`choose_boot_file`]: what a machine loads first, by the architecture of its firmware and the features of its iPXE.
//!
//! The DHCP server decides, by options 93, 60 and 175. The files in `packaging/dhcp` implement this table; tests
//! compare their answers with it. An architecture without a row gets nothing: a binary for other firmware ends
//! in an unreadable error, or hangs the machine.

use std::fmt;

use crate::model::IpxeFeature;

/// How a file is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By its name, from the TFTP server.
    Tftp,
    /// By its URL, from the boot listener. Such firmware requires vendor class `HTTPClient` in the answer.
    Http,
}

/// The iPXE binary for firmware of one architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// The code in DHCP option 93.
    pub code: u16,
    /// The name of the binary.
    pub image: &'static str,
    /// How the firmware loads it.
    pub transport: Transport,
}

/// The architectures that volboot boots. The codes are those of IANA's registry "Processor Architecture Types"
/// (RFC 5970, §7.2), which continues that of RFC 4578.
pub const ARCHITECTURES: [Architecture; 8] = [
    // BIOS.
    Architecture { code: 0, image: "undionly.kpxe", transport: Transport::Tftp },
    // UEFI x86_64. The RFC's text calls 9 x86_64 and 7 EFI byte code, the registry reversed them: firmware sends both.
    Architecture { code: 7, image: "snponly.efi", transport: Transport::Tftp },
    Architecture { code: 9, image: "snponly.efi", transport: Transport::Tftp },
    // UEFI arm64.
    Architecture { code: 11, image: "ipxe-arm64.efi", transport: Transport::Tftp },
    // UEFI x86_64 and arm64, HTTP boot.
    Architecture { code: 16, image: "snponly.efi", transport: Transport::Http },
    Architecture { code: 19, image: "ipxe-arm64.efi", transport: Transport::Http },
    // BIOS, HTTP boot.
    Architecture { code: 20, image: "undionly.kpxe", transport: Transport::Http },
    // U-Boot arm64, whose UEFI runs the binary.
    Architecture { code: 22, image: "ipxe-arm64.efi", transport: Transport::Tftp },
];

/// A DHCP client, as its request shows it.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClient<'a> {
    /// The architectures in option 93, the preferred one first; empty without the option.
    pub architectures: &'a [u16],
    /// Option 60.
    pub vendor_class: Option<&'a str>,
    /// The codes within option 175; only iPXE sends the option.
    pub ipxe: Option<&'a [u8]>,
}

/// The file that a machine loads first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpBootFile {
    /// The boot script, by its URL.
    Script,
    /// A binary, for firmware.
    Image(Architecture),
    /// A binary, over TFTP, for an iPXE that lacks a feature.
    CompleteIpxe {
        /// The missing feature.
        lacking: IpxeFeature,
        /// The name of the binary.
        image: &'static str,
    },
}

impl DhcpBootFile {
    /// How the machine loads the file.
    pub const fn transport(&self) -> Transport {
        match self {
            Self::Script => Transport::Http,
            Self::Image(architecture) => architecture.transport,
            Self::CompleteIpxe { .. } => Transport::Tftp,
        }
    }
}

/// The path on the TFTP server, or on the boot listener.
impl fmt::Display for DhcpBootFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Script => f.write_str("boot.ipxe"),
            Self::Image(Architecture { image, transport: Transport::Tftp, .. }) => f.write_str(image),
            Self::Image(Architecture { image, transport: Transport::Http, .. }) => {
                write!(f, "images/{image}")
            }
            Self::CompleteIpxe { lacking, image } => write!(f, "{}/{image}", lacking.folder()),
        }
    }
}

/// The file for a DHCP client; `None` if volboot has nothing for it.
pub fn choose_boot_file(client: &BootClient<'_>) -> Option<DhcpBootFile> {
    let missing_feature =
        |codes: &[u8]| IpxeFeature::ALL.into_iter().find(|feature| !codes.contains(&feature.code()));
    match client.ipxe.map(missing_feature) {
        Some(None) => Some(DhcpBootFile::Script),
        // iPXE names the architecture of its build, which is none of those for HTTP boot, and always has TFTP.
        Some(Some(lacking)) => {
            let row = find_architecture(client).filter(|row| row.transport == Transport::Tftp);
            row.map(|Architecture { image, .. }| DhcpBootFile::CompleteIpxe { lacking, image })
        }
        None => find_architecture(client).map(DhcpBootFile::Image),
    }
}

/// The row of the first architecture. DHCP servers compare no other one: dhcpd and Kea read the first two bytes. Without
/// option 93, the vendor class has the code (PXE 2.1, §2.2.1).
fn find_architecture(client: &BootClient<'_>) -> Option<Architecture> {
    let in_class = || client.vendor_class.and_then(parse_vendor_class);
    let code = client.architectures.first().copied().or_else(in_class)?;
    ARCHITECTURES.into_iter().find(|row| row.code == code)
}

/// The architecture in `PXEClient:Arch:00007:UNDI:003016` or `HTTPClient:Arch:…`.
fn parse_vendor_class(class: &str) -> Option<u16> {
    let rest = class.strip_prefix("PXEClient").or_else(|| class.strip_prefix("HTTPClient"))?;
    let code = rest.strip_prefix(":Arch:")?.get(..5)?;
    code.bytes().all(|byte| byte.is_ascii_digit()).then(|| code.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(client: &BootClient<'_>) -> Option<String> {
        choose_boot_file(client).map(|file| file.to_string())
    }

    fn firmware(architectures: &[u16]) -> Option<String> {
        path(&BootClient { architectures, ..BootClient::default() })
    }

    #[test]
    fn firmware_gets_the_binary_of_its_architecture_or_nothing() {
        for (codes, file) in [
            (&[0][..], "undionly.kpxe"),
            (&[7], "snponly.efi"),
            (&[9], "snponly.efi"),
            (&[11], "ipxe-arm64.efi"),
            (&[22], "ipxe-arm64.efi"),
            (&[16], "images/snponly.efi"),
            (&[19], "images/ipxe-arm64.efi"),
            (&[20], "images/undionly.kpxe"),
            // Several: the first one.
            (&[7, 0], "snponly.efi"),
            (&[0, 7], "undionly.kpxe"),
        ] {
            assert_eq!(firmware(codes).as_deref(), Some(file), "{codes:?}");
        }
        for code in (0..=50).filter(|code| ![0, 7, 9, 11, 16, 19, 20, 22].contains(code)) {
            assert_eq!(firmware(&[code]), None, "{code}");
        }
        assert_eq!(firmware(&[]), None);
        assert_eq!(firmware(&[6, 7]), None, "the first one decides");
    }

    #[test]
    fn the_vendor_class_has_the_architecture_where_option_93_is_missing() {
        let class = |class, architectures| {
            path(&BootClient { vendor_class: Some(class), architectures, ..BootClient::default() })
        };
        assert_eq!(class("PXEClient:Arch:00000:UNDI:002001", &[]).as_deref(), Some("undionly.kpxe"));
        assert_eq!(class("HTTPClient:Arch:00016:UNDI:003001", &[]).as_deref(), Some("images/snponly.efi"));
        assert_eq!(class("PXEClient:Arch:00000", &[7]).as_deref(), Some("snponly.efi"), "option 93 wins");
        for other in
            ["PXEClient", "PXEClient:Arch:7", "PXEClient:Arch:+0007", "MSFT 5.0", "PXEClient:Arch:00006"]
        {
            assert_eq!(class(other, &[]), None, "{other}");
        }
    }

    #[test]
    fn ipxe_gets_the_script_or_a_complete_ipxe() {
        let ipxe = |codes, architectures| {
            path(&BootClient { ipxe: Some(codes), architectures, ..BootClient::default() })
        };
        assert_eq!(ipxe(&[235, 19, 17], &[6]).as_deref(), Some("boot.ipxe"));
        assert_eq!(ipxe(&[235, 21], &[0]).as_deref(), Some("without-http/undionly.kpxe"));
        assert_eq!(ipxe(&[17], &[7]).as_deref(), Some("without-http/snponly.efi"));
        assert_eq!(ipxe(&[19], &[11]).as_deref(), Some("without-iscsi/ipxe-arm64.efi"));
        assert_eq!(ipxe(&[19], &[6]), None);
        assert_eq!(ipxe(&[19], &[16]), None);
    }

    #[test]
    fn the_table_names_binaries_that_are_served() {
        for Architecture { code, image, .. } in ARCHITECTURES {
            assert!(super::super::SPECS.iter().any(|spec| spec.name == image), "{code}: {image}");
        }
    }
}
