//! The stations of a boot, and how each shows on the machine's console.
//!
//! The words are the firmware's and iPXE's own. A station that another version words differently is left out
//! of the account; only the last, the boot loader's line, is waited for.

use std::time::{Duration, Instant};

use crate::lab::machine::{Firmware, Machine};
use crate::screen::{Screen, seconds};

/// What is printed, and what it means.
type Milestone = (&'static str, &'static str);

const BIOS: [Milestone; 2] = [
    ("SeaBIOS", "the firmware started"),
    ("iPXE initialising devices", "the network card's ROM started iPXE"),
];
const UEFI: [Milestone; 3] = [
    (">>Start PXE over IPv4", "the firmware started and asked for an address"),
    ("NBP file downloaded successfully", "the firmware had fetched iPXE from volboot over TFTP"),
    ("iPXE initialising devices", "the firmware started iPXE"),
];
const IPXE: [Milestone; 4] = [
    ("Filename:", "the DHCP server gave iPXE an address and volboot's URL"),
    ("boot.ipxe... ok", "volboot answered, and was asked for this machine's own script"),
    ("Registered SAN device 0x80", "iPXE had logged in at the iSCSI target: the volume is the first disk"),
    ("Booting from SAN device 0x80", "iPXE started what is on that disk"),
];

/// Prints when each station was reached after `start`, and how long it took from the one before.
pub(crate) fn account(
    machine: &Machine,
    firmware: Firmware,
    start: Instant,
    boot_line: &str,
    screen: &Screen,
) {
    let first: &[Milestone] = match firmware {
        Firmware::Bios => &BIOS,
        Firmware::Uefi | Firmware::UefiArm64 => &UEFI,
    };
    let last = (boot_line, "the volume's own boot loader spoke");
    let mut before = Duration::ZERO;
    screen.row("   after power-on    took  what happened");
    for (pattern, meaning) in first.iter().chain(&IPXE).copied().chain([last]) {
        if let Some(at) = machine.when(pattern) {
            let after = at.saturating_duration_since(start);
            let took = after.saturating_sub(before);
            screen.row(&format!("         {}{}  {meaning}", seconds(after), seconds(took)));
            before = after;
        }
    }
}
