//! iPXE's error numbers in words, and what to do about them.
//!
//! A number is eight hexadecimal digits (<https://ipxe.org/err>): the class of the error, the file of iPXE that it
//! comes from, one digit that tells its errors apart, and two for the platform, which differ between BIOS and UEFI.
//! So the first six tell the meaning, fewer where a whole class means one thing here. `${errno}` has no leading
//! zeros: `0xf0a6039` is `0f0a6039`.

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    /// What went wrong, to follow "because".
    pub what: &'static str,
    /// What to do about it.
    pub advice: &'static str,
}

/// The beginning of a number, what it means, what to do. The first row that fits holds.
const TABLE: [(&str, &str, &str); 32] = [
    (
        "2c0d60",
        "the target does not know the volume's name (IQN), or not yet",
        "Compare the target's IQN with what the storage exports. If the volume was just exported, the next try finds it.",
    ),
    (
        "0f0a60",
        "the storage refused the connection at the portal's port",
        "Look whether the iSCSI target runs at that address and port, and whether a firewall rejects it.",
    ),
    (
        "4c",
        "nothing answered in time",
        "Look for a firewall that drops packets, a missing route, or the wrong VLAN between the machine and the storage.",
    ),
    (
        "28",
        "the machine has no route to the storage's network",
        "Give its network card an address in that network or a gateway to it, by DHCP.",
    ),
    (
        "410d61",
        "the target refused the name and password (CHAP)",
        "Compare auth_username and auth_password of the volume target with what the storage expects.",
    ),
    (
        "410d62",
        "the target does not let this initiator in",
        "Compare the node's iqn connector with the target's list of allowed initiators (ACL).",
    ),
    (
        "430d66",
        "the target rejected the login: it demands a name and password (CHAP), and got none",
        "Give the volume target auth_username and auth_password, or let the storage do without.",
    ),
    (
        "430d61",
        "the target asks for a CHAP algorithm that iPXE does not have",
        "Let the storage offer MD5 for CHAP.",
    ),
    ("430d62", "the target's CHAP identifier made no sense", "Look at the storage's log."),
    ("430d63", "the target's CHAP challenge made no sense", "Look at the storage's log."),
    ("430d64", "the target's CHAP response made no sense", "Look at the storage's log."),
    (
        "430d65",
        "the target answered the login with something that is no key and value",
        "Look at the storage's log.",
    ),
    (
        "020d61",
        "the target proved itself under another name than was expected (mutual CHAP)",
        "Compare the reverse name that the storage uses with what is configured.",
    ),
    (
        "020d62",
        "the target could not prove itself (mutual CHAP)",
        "Compare the reverse password that the storage uses with what is configured.",
    ),
    ("1c0d61", "the volume's address is too short to be one", "Look at the volume target's properties."),
    (
        "1c0d62",
        "a name without a password was given, or the other way round",
        "Give the volume target both auth_username and auth_password, or neither.",
    ),
    ("1c0d63", "no volume's address was given", "Look at the volume target's properties."),
    ("1c0d64", "no target's name (IQN) was given", "Give the volume target its target_iqn."),
    ("1c0d65", "the machine has no initiator's name (IQN)", "Give the node a connector of the type iqn."),
    ("1d0d61", "the target is not operational now", "Look at the storage; the next try may find it well."),
    (
        "1d0d62",
        "the target is out of resources",
        "Look how many sessions the storage has and may have; the next try may find room.",
    ),
    (
        "3c0d61",
        "the target answered the login with a status that iPXE does not know",
        "Look at the storage's log.",
    ),
    ("3c0d62", "the target sent a message that iPXE does not know", "Look at the storage's log."),
    (
        "3c0d63",
        "the target answered with a second login where there must be one",
        "Look at the storage's log.",
    ),
    ("3c0d64", "the target wanted to be discovered, which is not done here", "Look at the storage's log."),
    ("1d7042", "the disk is there, but not ready", "Look at the storage; the next try may find it ready."),
    // tgt says no more of a number that it does not have.
    (
        "1d7040",
        "the target let it in, but there is no disk under this number (LUN)",
        "Compare target_lun of the volume target with what the storage exports.",
    ),
    (
        "1d7045",
        "the target let it in, but there is no disk under this number (LUN)",
        "Compare target_lun of the volume target with what the storage exports.",
    ),
    ("1d704", "the disk is there, but answers with an error of its own", "Look at the storage's log."),
    (
        "7f2220",
        "there is no boot loader on the volume that UEFI firmware can start",
        "Look whether the volume has an EFI system partition with \\EFI\\BOOT\\BOOTX64.EFI (BOOTAA64.EFI on arm64), or name \
         the loader in the target's or node's property uefi_loader.",
    ),
    ("2d0c61", "the web server has no such file (404)", "Look at the address it was sent to."),
    ("2d1261", "the TFTP server has no such file", "Look at the name it was sent to."),
];

/// What a number means, if it is one of those that are known.
pub fn meaning(rc: &str) -> Option<Meaning> {
    let number = digits(rc)?;
    let row = TABLE.iter().find(|(beginning, ..)| number.starts_with(beginning));
    row.map(|(_, what, advice)| Meaning { what, advice })
}

/// Where iPXE's own page about a number is.
pub fn page(rc: &str) -> Option<String> {
    digits(rc).map(|number| format!("https://ipxe.org/{number}"))
}

/// All eight digits of a number.
fn digits(rc: &str) -> Option<String> {
    let text = rc.strip_prefix("0x").or_else(|| rc.strip_prefix("0X")).unwrap_or(rc);
    u32::from_str_radix(text, 16).ok().filter(|number| *number != 0).map(|number| format!("{number:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reached_on_bios_and_on_uefi() {
        for (beginning, what, advice) in TABLE {
            // The digits that are not told are those of the platform, or anything.
            for platform in ["39", "8f"] {
                let unknown = "f".repeat(6 - beginning.len());
                let number = format!("{beginning}{unknown}{platform}");
                let short = format!("0x{}", number.trim_start_matches('0'));
                assert_eq!(meaning(&short), Some(Meaning { what, advice }), "{short}");
            }
            let sentence = format!("{what}.");
            assert!(sentence.starts_with(char::is_lowercase), "{what} follows \"because\"");
            assert!(advice.ends_with('.') && advice.starts_with(char::is_uppercase), "{advice}");
        }
    }

    #[test]
    fn what_the_lab_has_seen_is_told_as_it_was() {
        for (rc, expected) in [
            ("0x2c0d6039", "the volume's name"),
            ("0xf0a6039", "refused the connection"),
            ("0x410d6139", "name and password"),
            ("0x430d668f", "demands a name and password"),
            ("0x1d704039", "no disk under this number"),
            ("0x1d704539", "no disk under this number"),
            ("0x7f22208e", "no boot loader"),
            ("4c0a6035", "nothing answered"),
        ] {
            let what = meaning(rc).map(|meaning| meaning.what).unwrap_or_default();
            assert!(what.contains(expected), "{rc}: {what}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        for rc in ["0x12345678", "", "0x", "0", "nonsense", "0x123456789"] {
            assert_eq!(meaning(rc), None, "{rc}");
        }
        assert_eq!(page("0xf0a6039").as_deref(), Some("https://ipxe.org/0f0a6039"));
        assert_eq!(page("nonsense"), None);
    }
}
