//! Bare machines: QEMU with real firmware, an empty memory, a network card, and mostly no disk.
//!
//! Traps it copes with:
//! * `-accel tcg`: under KVM the iPXE of 2019 hangs on some hosts, and not every host that runs tests has
//!   KVM.
//! * `-nographic` makes SeaBIOS show its text screen on the serial line; iPXE and GRUB have no serial console
//!   of their own there.
//! * A UEFI machine has no option ROM (`romfile=`), otherwise QEMU's own iPXE would do what the firmware's
//!   PXE is to do; and it gets a fresh copy of its variables, or it would remember the boot order of the test
//!   before.
//! * OVMF of 2024 and later has no network without a source of random numbers.
//! * OVMF tries PXE before HTTP boot, for minutes, unless PXE is switched off.
//! * UEFI takes the boot order from `bootindex` and ignores `-boot n`.
//! * An arm64 machine has no BIOS and no default board or processor: all three are named.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::process::{Listener, Process, Seen};
use super::volume::Volume;
use super::{Lab, network};

const BARE: &str = "-nodefaults -nographic -serial stdio -no-reboot -accel tcg -m 256";

/// What a machine starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Firmware {
    /// SeaBIOS, with iPXE as the network card's ROM.
    Bios,
    /// OVMF, with its own PXE.
    Uefi,
    /// The same firmware on an arm64 machine, where it is called AAVMF.
    UefiArm64,
}

/// UEFI's two halves: what it is, and what it remembers.
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

/// A machine that can be switched on.
pub(crate) struct Build<'a> {
    /// What it starts with.
    pub(crate) firmware: Firmware,
    /// Its network card's address.
    pub(crate) mac: &'a str,
    /// UEFI: whether it boots by HTTP, and not by PXE.
    pub(crate) http_boot: bool,
    /// A disk in the machine, asked after the network.
    pub(crate) disk: Option<&'a Volume>,
    /// Is told each line of its console.
    pub(crate) listener: Option<Listener>,
}

impl<'a> Build<'a> {
    /// A machine without a disk.
    pub(crate) fn bare(firmware: Firmware, mac: &'a str) -> Self {
        Self { firmware, mac, http_boot: false, disk: None, listener: None }
    }

    /// Switches the machine on; dropping it pulls the plug.
    pub(crate) fn power_on(self, lab: &Lab) -> Result<Machine> {
        let cable = format!("tap{}", self.mac.replace(':', "").split_off(6));
        network::plug(&cable)?;

        let mut qemu = self.firmware.qemu();
        qemu.args(["-netdev", &format!("tap,id=net,ifname={cable},script=no,downscript=no")]);
        let card = format!("virtio-net-pci,netdev=net,bootindex=1,mac={}", self.mac);
        match self.firmware.flash() {
            None => qemu.args(["-device", &card]),
            Some(flash) => {
                let variables = lab.path().join(format!("{cable}.vars"));
                fs::copy(flash.variables, &variables)
                    .with_context(|| format!("cannot copy its variables (package {})", flash.package))?;
                qemu.args(["-device", &format!("{card},romfile="), "-device", "virtio-rng-pci"]);
                qemu.args(["-drive", &format!("if=pflash,format=raw,readonly=on,file={}", flash.code)]);
                qemu.args(["-drive", &format!("if=pflash,format=raw,file={}", variables.display())])
            }
        };
        if self.http_boot {
            for pxe in ["IPv4PXESupport", "IPv6PXESupport"] {
                qemu.args(["-fw_cfg", &format!("name=opt/org.tianocore/{pxe},string=n")]);
            }
        }
        if let Some(disk) = self.disk {
            qemu.args(["-drive", &format!("if=none,id=disk,format=raw,file={}", disk.image().display())]);
            qemu.args(["-device", "virtio-blk-pci,drive=disk,bootindex=2"]);
        }
        Ok(Machine { process: Process::start("the machine", &mut qemu, self.listener)? })
    }
}

/// A machine that is switched on.
pub(crate) struct Machine {
    process: Process,
}

impl Machine {
    /// Waits until its console shows one of `patterns` after the one waited for before.
    pub(crate) fn shows(&mut self, patterns: &[&str], within: Duration) -> Result<Seen> {
        self.process.wait_for(patterns, within)
    }

    /// When its console first showed `pattern`, if it did.
    pub(crate) fn when(&self, pattern: &str) -> Option<Instant> {
        self.process.when(pattern)
    }
}
