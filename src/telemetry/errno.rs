//! The meaning of iPXE's error numbers, and advice for the operator.
//!
//! An error number has eight hexadecimal digits (see [ipxe.org](https://ipxe.org/err)). The first digits are the
//! class of the error and the file of iPXE that reports it. One more digit tells the errors of that file apart. The
//! last two are the platform. They differ between BIOS and UEFI, so six digits identify an error, or fewer where a
//! whole class has one meaning here. `${errno}` has no leading zeros: `0xf0a6039` is `0f0a6039`.

/// Errors of the iBFT, iPXE's table for the operating system, by their first digits: the class `ENOSPC` or `ENOTSUP`,
/// and the file of iPXE.
const IBFT_FULL: &str = "348520"; // `int13_install` in `int13.c`
const IBFT_UNSUPPORTED: &str = "3c2220"; // `efi_block_describe` in `efi_block.c`
/// The file `ibft.c` in an error number, after the two digits of the class.
const IBFT_FILE: &str = "0ce0";

/// Errors of a volume without anything to boot, by their first digits.
const NO_LOADER: &str = "7f2220"; // `efi_block_boot` in `efi_block.c`
const NO_BOOT_CODE: &str = "1d8520"; // `EIO` of `int13.c`: no boot signature in the first sector, no El Torito boot catalogue

/// Cause of an iPXE error, and advice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// The cause; follows a colon, so it starts with a lower-case letter.
    pub cause: &'static str,
    /// Advice, in whole sentences.
    pub advice: &'static str,
}

/// A fault of the iBFT that the next try can avoid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IbftFault {
    /// Fewer paths may fit into the table.
    Full,
    /// The firmware accepts no table.
    Unsupported,
}

/// A volume whose content does not boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeFault {
    /// No boot loader for UEFI firmware.
    NoLoader,
    /// No boot code for BIOS firmware.
    NoBootCode,
}

const CHECK_STORAGE_LOG: &str = "Check the storage's log.";
const CHECK_TARGET_PROPERTIES: &str = "Check the properties of the volume target.";
const DESCRIBE_FEWER: &str =
    "The next try describes one path less, at last none. Check the portals of the volume target.";
const COMPARE_LUN: &str = "Compare target_lun of the volume target with the storage's exports. If they are equal and above 255, set addressing_mode to SAM2.";

/// First digits of the error number, cause, advice. The first matching row applies.
const TABLE: [(&str, &str, &str); 38] = [
    (
        "2c0d60",
        "target does not know the volume's IQN (yet)",
        "Compare the target's IQN with the storage's exports. A volume exported a moment ago is found at the next try.",
    ),
    (
        "0f0a60",
        "storage refused the TCP connection at the portal's port",
        "Check that the iSCSI target listens on that address and port, and that no firewall rejects the connection.",
    ),
    (
        "4c",
        "time-out: no response",
        "Check for a firewall that drops packets, a missing route, or a wrong VLAN between the machine and the storage.",
    ),
    (
        "28",
        "no route to the storage network",
        "Use DHCP to give the machine's network card an address in that network or a gateway to it.",
    ),
    (
        "410d61",
        "target rejected CHAP credentials",
        "Compare auth_username and auth_password of the volume target with the storage's configuration.",
    ),
    (
        "410d62",
        "target does not authorize this initiator",
        "Compare the node's iqn connector with the target's access list (ACL) of initiators.",
    ),
    (
        "430d66",
        "target requires CHAP credentials, but the machine has none",
        "Set auth_username and auth_password of the volume target, or disable CHAP on the storage.",
    ),
    (
        "430d61",
        "target requires a CHAP algorithm that iPXE does not support",
        "Enable MD5 for CHAP on the storage.",
    ),
    ("430d62", "target sent an invalid CHAP identifier", CHECK_STORAGE_LOG),
    ("430d63", "target sent an invalid CHAP challenge", CHECK_STORAGE_LOG),
    ("430d64", "target sent an invalid CHAP response", CHECK_STORAGE_LOG),
    ("430d65", "target sent a malformed login response (no key=value pair)", CHECK_STORAGE_LOG),
    (
        "020d61",
        "mutual CHAP: target authenticated with an unexpected name",
        "Compare the storage's reverse CHAP name with the configured one.",
    ),
    (
        "020d62",
        "mutual CHAP: target failed to authenticate",
        "Compare the storage's reverse CHAP password with the configured one.",
    ),
    ("1c0d61", "volume address (root path) is too short", CHECK_TARGET_PROPERTIES),
    (
        "1c0d62",
        "CHAP name and password are not both set",
        "Set both auth_username and auth_password of the volume target, or neither.",
    ),
    ("1c0d63", "volume address (root path) is missing", CHECK_TARGET_PROPERTIES),
    ("1c0d64", "target IQN is missing", "Set target_iqn of the volume target."),
    ("1c0d65", "initiator IQN is missing", "Add a connector of type iqn to the node."),
    ("1d0d61", "target is not operational", "Check the storage. A later try may succeed."),
    (
        "1d0d62",
        "target is out of resources",
        "Compare the storage's number of iSCSI sessions with its limit. A later try may succeed.",
    ),
    ("3c0d61", "target sent a login status that iPXE does not support", CHECK_STORAGE_LOG),
    ("3c0d62", "target sent a message that iPXE does not support", CHECK_STORAGE_LOG),
    ("3c0d63", "target sent an unexpected second login", CHECK_STORAGE_LOG),
    ("3c0d64", "target requires discovery, which volboot does not support", CHECK_STORAGE_LOG),
    // The error of a URL whose scheme is not in the build. A report arrives over HTTP, so the scheme is `iscsi:`.
    (
        "3c0920",
        "this iPXE has no iSCSI",
        "Give the machine a complete iPXE: the DHCP files in /usr/share/volboot/dhcp do so, by option 175. If the iPXE is \
         volboot's own, install a newer one: `volboot images` lists the binaries.",
    ),
    ("1d7042", "disk is not ready", "Check the storage. A later try may succeed."),
    // tgt reports a missing LUN without further detail.
    ("1d7040", "login succeeded, but the target has no disk with this LUN", COMPARE_LUN),
    ("1d7045", "login succeeded, but the target has no disk with this LUN", COMPARE_LUN),
    ("1d704", "disk reported an error", CHECK_STORAGE_LOG),
    (
        NO_LOADER,
        "volume has no boot loader for UEFI firmware",
        "Check that the volume has an EFI system partition with \\EFI\\BOOT\\BOOTX64.EFI (BOOTAA64.EFI on arm64), or set \
         the loader's path in the property uefi_loader of the target or node.",
    ),
    (
        NO_BOOT_CODE,
        "volume has no boot code for BIOS firmware",
        "Check that the volume is the right one, and that a boot loader for BIOS is installed on it: `volboot check` shows \
         what boots from it.",
    ),
    (
        IBFT_FULL,
        "table for the operating system (iBFT) has no room for all names and secrets",
        "The next try describes one path less, at last none. Shorten the initiator name, the CHAP credentials, or the \
         host name that DHCP gives.",
    ),
    (
        IBFT_UNSUPPORTED,
        "firmware accepts no table for the operating system (iBFT)",
        "The next try does without the table. Configure the volumes in the operating system.",
    ),
    (
        "060ce0",
        "table for the operating system (iBFT) needs the address of each path, but a portal's name has none",
        DESCRIBE_FEWER,
    ),
    (
        "170ce0",
        "table for the operating system (iBFT) needs a route to each path, but one path has none",
        DESCRIBE_FEWER,
    ),
    ("2d0c61", "web server has no such file (404)", "Check the URL."),
    ("2d1261", "TFTP server has no such file", "Check the file name."),
];

/// The meaning of an error number, if it is in the table.
pub fn meaning(rc: &str) -> Option<Meaning> {
    let number = digits(rc)?;
    let row = TABLE.iter().find(|(prefix, ..)| number.starts_with(prefix));
    row.map(|(_, cause, advice)| Meaning { cause, advice })
}

/// The fault of the iBFT behind an error number.
pub fn find_ibft_fault(rc: &str) -> Option<IbftFault> {
    let number = digits(rc)?;
    let is_full = number.starts_with(IBFT_FULL) || number[2..].starts_with(IBFT_FILE);
    let fault = is_full.then_some(IbftFault::Full);
    fault.or_else(|| number.starts_with(IBFT_UNSUPPORTED).then_some(IbftFault::Unsupported))
}

/// The fault of the volume's content behind an error number.
pub fn find_volume_fault(rc: &str) -> Option<VolumeFault> {
    let number = digits(rc)?;
    let is = |prefix: &str, fault| number.starts_with(prefix).then_some(fault);
    is(NO_LOADER, VolumeFault::NoLoader).or_else(|| is(NO_BOOT_CODE, VolumeFault::NoBootCode))
}

/// All errors of the table: the first digits as a console shows them, and the meaning.
pub fn list_meanings() -> impl Iterator<Item = (String, Meaning)> {
    TABLE.iter().map(|(prefix, cause, advice)| {
        (format!("0x{}", prefix.trim_start_matches('0')), Meaning { cause, advice })
    })
}

/// URL of iPXE's page about an error number.
pub fn page(rc: &str) -> Option<String> {
    digits(rc).map(|number| format!("https://ipxe.org/{number}"))
}

/// An error number with all eight digits.
fn digits(rc: &str) -> Option<String> {
    let text = rc.strip_prefix("0x").or_else(|| rc.strip_prefix("0X")).unwrap_or(rc);
    u32::from_str_radix(text, 16).ok().filter(|number| *number != 0).map(|number| format!("{number:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reachable_on_bios_and_uefi() {
        for (prefix, cause, advice) in TABLE {
            // Platform digits of BIOS and UEFI; digits between prefix and platform are arbitrary.
            for platform in ["39", "8f"] {
                let padding = "f".repeat(6 - prefix.len());
                let number = format!("{prefix}{padding}{platform}");
                let rc = format!("0x{}", number.trim_start_matches('0'));
                assert_eq!(meaning(&rc), Some(Meaning { cause, advice }), "{rc}");
            }
            let is_acronym = cause.starts_with("CHAP") || cause.starts_with("TFTP");
            assert!(is_acronym || cause.starts_with(char::is_lowercase), "\"{cause}\" follows a colon");
            assert!(advice.ends_with('.') && advice.starts_with(char::is_uppercase), "{advice}");
        }
    }

    #[test]
    fn error_numbers_observed_in_the_lab_have_their_meaning() {
        for (rc, expected) in [
            ("0x2c0d6039", "volume's IQN"),
            ("0xf0a6039", "refused the TCP connection"),
            ("0x410d6139", "CHAP credentials"),
            ("0x430d668f", "requires CHAP credentials"),
            ("0x1d704039", "no disk with this LUN"),
            ("0x1d704539", "no disk with this LUN"),
            ("0x7f22208e", "no boot loader"),
            ("0x1d852039", "no boot code"),
            ("0x34852039", "(iBFT) has no room"),
            ("4c0a6035", "no response"),
            ("0x3c092003", "no iSCSI"),
            ("0x3c092083", "no iSCSI"),
        ] {
            let cause = meaning(rc).map(|meaning| meaning.cause).unwrap_or_default();
            assert!(cause.contains(expected), "{rc}: {cause}");
        }
    }

    #[test]
    fn a_missing_lun_may_be_addressed_in_another_mode() {
        for rc in ["0x1d704039", "0x1d704539"] {
            let advice = meaning(rc).map(|meaning| meaning.advice).unwrap_or_default();
            assert!(advice.contains("addressing_mode"), "{rc}: {advice}");
        }
    }

    #[test]
    fn faults_of_the_ibft_are_recognized_by_class_and_file() {
        for (rc, expected) in [
            ("0x34852039", Some(IbftFault::Full)),
            ("0x170ce039", Some(IbftFault::Full)),
            ("0x60ce08f", Some(IbftFault::Full)),
            ("0x3c222083", Some(IbftFault::Unsupported)),
            // `ENOSPC` of another file, another error of `efi_block.c`, a refused login.
            ("0x342d0039", None),
            ("0x7f22208e", None),
            ("0x410d6139", None),
            ("nonsense", None),
        ] {
            assert_eq!(find_ibft_fault(rc), expected, "{rc}");
            // An operator reads the cause of each fault.
            assert!(expected.is_none() || meaning(rc).is_some(), "{rc}");
        }
    }

    #[test]
    fn unlisted_and_malformed_numbers_have_no_meaning() {
        for rc in ["0x12345678", "", "0x", "0", "nonsense", "0x123456789"] {
            assert_eq!(meaning(rc), None, "{rc}");
        }
        assert_eq!(page("0xf0a6039").as_deref(), Some("https://ipxe.org/0f0a6039"));
        assert_eq!(page("nonsense"), None);
    }
}
