//! Bare machines: QEMU with real firmware, a network card, and usually no disk.
//!
//! Traps:
//! * `-accel tcg`: under KVM the iPXE of 2019 hangs on some hosts, and some test hosts have no KVM.
//! * `-nographic` makes SeaBIOS show its text screen on the serial line; iPXE and GRUB have no serial console
//!   of their own there.
//! * A UEFI machine has no option ROM (`romfile=`), otherwise QEMU's own iPXE would replace the firmware's PXE. Each
//!   machine gets a new copy of the UEFI variables, since the boot order of an earlier test is stored there.
//! * OVMF of 2024 and later has no network without a random number generator.
//! * OVMF tries PXE before HTTP boot, for minutes, unless PXE is disabled.
//! * UEFI takes the boot order from `bootindex` and ignores `-boot n`.
//! * An arm64 machine has no default firmware, board or processor: all three are options.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::process::{LineHandler, Match, Process};
use super::volume::Volume;
use super::{Lab, network};

const BARE: &str = "-nodefaults -nographic -serial stdio -no-reboot -accel tcg";
/// Enough for firmware, iPXE and a boot loader, in MiB.
const MEMORY: u32 = 256;

/// A machine's firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// SeaBIOS, with iPXE as the network card's ROM.
    Bios,
    /// OVMF, with its own PXE.
    Uefi,
    /// The same firmware for arm64, where its name is AAVMF.
    UefiArm64,
}

/// UEFI's flash images: code and variables.
struct Flash {
    code: &'static str,
    variables: &'static str,
    package: &'static str,
}

impl Firmware {
    fn qemu(self) -> Command {
        let (qemu, board): (_, &[&str]) = match self {
            Self::Bios | Self::Uefi => ("qemu-system-x86_64", &[]),
            Self::UefiArm64 => ("qemu-system-aarch64", &["-machine", "virt", "-cpu", "cortex-a57"]),
        };
        let mut qemu = Command::new(qemu);
        qemu.args(board).args(BARE.split(' '));
        qemu
    }

    fn flash(self) -> Option<Flash> {
        match self {
            Self::Bios => None,
            Self::Uefi => Some(Flash {
                code: "/usr/share/OVMF/OVMF_CODE_4M.fd",
                variables: "/usr/share/OVMF/OVMF_VARS_4M.fd",
                package: "ovmf",
            }),
            Self::UefiArm64 => Some(Flash {
                code: "/usr/share/AAVMF/AAVMF_CODE.fd",
                variables: "/usr/share/AAVMF/AAVMF_VARS.fd",
                package: "qemu-efi-aarch64",
            }),
        }
    }
}

/// The IP version of the firmware's PXE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IpVersion {
    /// IPv4 first.
    V4,
    /// No PXE over IPv4.
    V6,
}

/// The description of a machine.
pub(crate) struct MachineSpec<'a> {
    /// The firmware.
    pub(crate) firmware: Firmware,
    /// The network card's MAC address.
    pub(crate) mac: &'a str,
    /// A second card before this one in the machine's order: its MAC address, and the bridge of its cable.
    pub(crate) other_card: Option<(&'a str, &'static str)>,
    /// Another bridge than the lab's, for the network card.
    pub(crate) bridge: Option<&'static str>,
    /// UEFI: HTTP boot instead of PXE.
    pub(crate) http_boot: bool,
    /// Whether the firmware has ACPI tables. Boards with a device tree have none.
    pub(crate) acpi: bool,
    /// UEFI: the IP version of PXE.
    pub(crate) ip_version: IpVersion,
    /// A local disk, after the network in the boot order.
    pub(crate) disk: Option<&'a Volume>,
    /// A disk image that is before the network in the boot order.
    pub(crate) first_disk: Option<&'a Path>,
    /// The size of the memory, in MiB.
    pub(crate) memory: u32,
    /// Called with each line of the console.
    pub(crate) line_handler: Option<LineHandler>,
    /// Whether the machine starts again after a reset. Otherwise a reset switches it off.
    pub(crate) restarts: bool,
}

impl<'a> MachineSpec<'a> {
    /// A machine without a disk.
    pub(crate) fn new(firmware: Firmware, mac: &'a str) -> Self {
        Self {
            firmware,
            mac,
            other_card: None,
            bridge: None,
            http_boot: false,
            acpi: true,
            ip_version: IpVersion::V4,
            disk: None,
            first_disk: None,
            memory: MEMORY,
            line_handler: None,
            restarts: false,
        }
    }

    /// Switches the machine on; dropping it switches it off.
    pub(crate) fn power_on(self, lab: &Lab) -> Result<Machine> {
        let cable = cable_of(self.mac);
        network::plug_into(&cable, self.bridge.unwrap_or(network::bridge()))?;

        let mut qemu = self.firmware.qemu();
        qemu.args(["-m", &self.memory.to_string()]);
        if self.restarts {
            qemu.args(["-action", "reboot=reset"]);
        }
        if !self.acpi {
            qemu.args(["-machine", "acpi=off"]);
        }
        if let Some((mac, bridge)) = self.other_card {
            let cable = cable_of(mac);
            network::plug_into(&cable, bridge)?;
            qemu.args(["-netdev", &format!("tap,id=other,ifname={cable},script=no,downscript=no")]);
            qemu.args(["-device", &format!("virtio-net-pci,netdev=other,mac={mac},romfile=")]);
        }
        qemu.args(["-netdev", &format!("tap,id=net,ifname={cable},script=no,downscript=no")]);
        let card = format!("virtio-net-pci,netdev=net,bootindex=1,mac={}", self.mac);
        match self.firmware.flash() {
            None => qemu.args(["-device", &card]),
            Some(flash) => {
                let variables = lab.path().join(format!("{cable}.vars"));
                fs::copy(flash.variables, &variables)
                    .with_context(|| format!("cannot copy the UEFI variables (package {})", flash.package))?;
                qemu.args(["-device", &format!("{card},romfile="), "-device", "virtio-rng-pci"]);
                qemu.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={}", flash.code)]);
                qemu.args(["-drive", &format!("if=pflash,format=raw,file={}", variables.display())])
            }
        };
        // OVMF without PXE of one version does not wait for it.
        let without_pxe: &[&str] = match (self.http_boot, self.ip_version) {
            (true, _) => &["IPv4PXESupport", "IPv6PXESupport"],
            (false, IpVersion::V4) => &[],
            (false, IpVersion::V6) => &["IPv4PXESupport"],
        };
        for pxe in without_pxe {
            qemu.args(["-fw_cfg", &format!("name=opt/org.tianocore/{pxe},string=n")]);
        }
        if let Some(disk) = self.disk {
            qemu.args(["-drive", &format!("if=none,id=disk,format=raw,file={}", disk.image().display())]);
            qemu.args(["-device", "virtio-blk-pci,drive=disk,bootindex=2"]);
        }
        if let Some(image) = self.first_disk {
            qemu.args(["-drive", &format!("if=none,id=first,format=raw,file={}", image.display())]);
            qemu.args(["-device", "virtio-blk-pci,drive=first,bootindex=0"]);
        }
        Ok(Machine { process: Process::start("the machine", &mut qemu, self.line_handler)? })
    }
}

/// The name of a card's cable.
fn cable_of(mac: &str) -> String {
    format!("tap{}", mac.replace(':', "").split_off(6))
}

/// A running machine.
pub(crate) struct Machine {
    process: Process,
}

impl Machine {
    /// Waits for one of `patterns` on the console, after the previous match.
    pub(crate) fn wait_for(&mut self, patterns: &[&str], within: Duration) -> Result<Match> {
        self.process.wait_for(patterns, within)
    }

    /// Waits until the machine is off. A restart counts as such.
    pub(crate) fn wait_for_end(&mut self, within: Duration) -> Result<()> {
        self.process.wait_for_exit(within)
    }

    /// The time of the first `pattern` on the console.
    pub(crate) fn find_time(&self, pattern: &str) -> Option<Instant> {
        self.process.find_time(pattern)
    }
}
