//! The milestones of a boot, and their patterns on the machine's console.
//!
//! The patterns are texts of the firmware and of iPXE. A milestone whose text differs in another version is left out of
//! the table; the demo waits only for the last one, the boot loader's line.

use std::time::{Duration, Instant};

use crate::lab::machine::{Firmware, Machine};
use crate::screen::{Screen, seconds};

/// A pattern on the console, and its meaning.
type Milestone = (&'static str, &'static str);

const BIOS: [Milestone; 2] = [
    ("SeaBIOS", "the firmware started"),
    ("iPXE initialising devices", "the network card's ROM started iPXE"),
];
const UEFI: [Milestone; 3] = [
    (">>Start PXE over IPv4", "the firmware started and sent a DHCP request"),
    ("NBP file downloaded successfully", "the firmware fetched iPXE from volboot over TFTP"),
    ("iPXE initialising devices", "the firmware started iPXE"),
];
const IPXE: [Milestone; 4] = [
    ("Filename:", "the DHCP server gave iPXE an address, and volboot the URL of the script"),
    ("boot.ipxe... ok", "iPXE fetched /boot.ipxe and sent the boot request"),
    ("Registered SAN device 0x80", "iPXE logged in to the iSCSI target: the volume is the first disk"),
    ("Booting from SAN device 0x80", "iPXE started the boot loader on that disk"),
];

/// Prints each milestone's time after `start`, and the time since the previous one.
pub(crate) fn print_milestones(
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
    let last = (boot_line, "the volume's boot loader printed its name");
    let mut previous = Duration::ZERO;
    screen.row("   after power-on    step  milestone");
    for (pattern, meaning) in first.iter().chain(&IPXE).copied().chain([last]) {
        if let Some(at) = machine.find_time(pattern) {
            let elapsed = at.saturating_duration_since(start);
            let step = elapsed.saturating_sub(previous);
            screen.row(&format!("         {}{}  {meaning}", seconds(elapsed), seconds(step)));
            previous = elapsed;
        }
    }
}
