//! Decides on which firmware a volume boots, from its paths and its content. A pure function.

use super::faults::{PathFault, describe_login, describe_unit};
use super::inspector::clean_text;
use super::portal::PathProbe;
use super::report::{Boots, CheckedPortal, PortalLogin, VolumeReport};
use super::request::{CheckRequest, RequestedVolume, VolumeRole};
use crate::inspect::{
    BootCode, Contents, FileSystemKind, KernelFiles, LoaderArchitecture, LoaderFile, PartitionTable,
};
use crate::iscsi::LogicalUnit;

/// The block size that BIOS boot code expects.
const BIOS_BLOCK: u32 = 512;
/// The peripheral device type of disks.
const DISK: u8 = 0;

/// Whether a volume boots on a firmware, and why. The reason follows a colon, or `by`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ruling {
    boots: Option<bool>,
    reason: String,
}

impl Ruling {
    fn new(boots: impl Into<Option<bool>>, reason: impl Into<String>) -> Self {
        Self { boots: boots.into(), reason: reason.into() }
    }

    /// The ruling, but unsure if it is against the boot.
    fn unless(self, doubt: Option<&str>) -> Self {
        match doubt {
            Some(doubt) if self.boots == Some(false) => Self::new(None, format!("{} ({doubt})", self.reason)),
            _ => self,
        }
    }

    /// The line of a verdict.
    fn describe(&self, firmware: &str) -> String {
        match self.boots {
            Some(true) => format!("boots on {firmware}, by {}", self.reason),
            Some(false) => format!("not on {firmware}: {}", self.reason),
            None => format!("unsure on {firmware}: {}", self.reason),
        }
    }
}

/// The rulings for BIOS, UEFI x86_64 and UEFI arm64.
type Rulings = [Ruling; 3];

/// Judges a volume by the probes of its paths.
pub(super) fn judge_volume(
    request: &CheckRequest,
    volume: &RequestedVolume,
    probes: &[PathProbe],
) -> VolumeReport {
    let mut findings = Vec::new();
    let (portals, faults) = list_portals(probes, &mut findings);
    let unit = probes.iter().find_map(|probe| probe.unit.as_ref()?.as_ref().ok());
    let contents = probes.iter().find_map(|probe| probe.contents.as_ref());
    let loader = volume.loader.as_ref().map(ToString::to_string);
    let is_bootable = volume.role != VolumeRole::Data;
    let mut uefi_loader = None;
    let all = |boots, reason: &str| [(); 3].map(|()| Ruling::new(boots, reason));
    let rulings = match (&request.initiator, &volume.connection, unit, contents) {
        (Err(reason), ..) => all(Some(false), reason),
        (_, Err(reason), ..) => all(None, reason),
        (_, _, None, _) => rule_without_path(&faults),
        (_, _, Some(_), None) => all(None, "the content was not read"),
        (_, _, Some(_), Some(Err(reason))) => {
            findings.push(format!("{reason}."));
            all(None, reason)
        }
        (_, _, Some(unit), Some(Ok(contents))) => {
            if is_bootable {
                uefi_loader = find_missing_loader(contents, loader.as_deref(), request.architecture);
            }
            list_remarks(contents, unit, is_bootable, &mut findings);
            rule_by_content(contents, unit, loader.as_deref())
        }
    };
    if let Some(path) = &uefi_loader {
        findings.push(match volume.role {
            VolumeRole::Fallback => {
                format!("Set uefi_loader of the fallback to {path}: `volboot fallback --uefi-loader`.")
            }
            VolumeRole::Boot | VolumeRole::Data => {
                format!("Set uefi_loader to {path}: `volboot check --apply` does so.")
            }
        });
    }
    if is_bootable
        && unit.is_some()
        && rulings.iter().all(|ruling| ruling.boots == Some(false))
        && uefi_loader.is_none()
    {
        let place = match volume.role {
            VolumeRole::Fallback => "as the fallback",
            VolumeRole::Boot | VolumeRole::Data => "in the volume target with boot index 0",
        };
        findings.push(format!(
            "The volume boots on no firmware. Write an image with a boot loader to it, or name the right volume {place}."
        ));
    }
    let [bios, x86_64, arm64] = &rulings;
    let mut boots = Boots { bios: bios.boots, ..Boots::default() };
    *boots.uefi_mut(LoaderArchitecture::X86_64) = x86_64.boots;
    *boots.uefi_mut(LoaderArchitecture::Arm64) = arm64.boots;
    VolumeReport {
        volume_id: volume.id.clone(),
        role: volume.role,
        is_boot: volume.is_boot,
        portals,
        size: unit.map(|unit| unit.blocks.saturating_mul(unit.block_size.into())),
        block_size: unit.map(|unit| unit.block_size),
        write_protected: unit.and_then(|unit| unit.write_protected),
        boots,
        uefi_loader,
        verdict: vec![bios.describe("BIOS"), x86_64.describe("UEFI x86_64"), arm64.describe("UEFI arm64")],
        findings,
    }
}

/// The paths as the report shows them, and their faults, which become findings.
fn list_portals(probes: &[PathProbe], findings: &mut Vec<String>) -> (Vec<CheckedPortal>, Vec<PathFault>) {
    let mut faults = Vec::new();
    let mut portals = Vec::new();
    for PathProbe { path, reachable, login, unit, .. } in probes {
        let portal = path.portal.to_string();
        let (login, fault) = match (login, unit) {
            (Err(error), _) => {
                let fault = describe_login(error);
                (PortalLogin::Failed(fault.cause.clone()), Some(fault))
            }
            (Ok(_), Some(Err(error))) => (PortalLogin::Admitted, Some(describe_unit(error))),
            (Ok(_), _) => (PortalLogin::Admitted, None),
        };
        if let Some(fault) = fault {
            let finding = format!("Portal {portal}: {}. {}", fault.cause, fault.advice);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
            faults.push(fault);
        }
        let target = path.target.as_str().to_owned();
        portals.push(CheckedPortal { portal, target, lun: path.lun.number(), reachable: *reachable, login });
    }
    (portals, faults)
}

/// Rules on a volume that no path gave access to. The fault of the first path that is unsure makes all unsure.
fn rule_without_path(faults: &[PathFault]) -> Rulings {
    let unsure = faults.iter().find(|fault| !fault.is_certain);
    let ruling = match (unsure, faults.first()) {
        (Some(fault), _) => Ruling::new(None, fault.cause.clone()),
        (None, Some(fault)) => Ruling::new(false, fault.cause.clone()),
        (None, None) => Ruling::new(None, "no path was tried"),
    };
    [(); 3].map(|()| ruling.clone())
}

fn rule_by_content(contents: &Contents, unit: &LogicalUnit, loader: Option<&str>) -> Rulings {
    let is_mounted = contents.file_systems.iter().any(|file_system| file_system.is_mounted);
    let doubt = match (is_mounted, contents.is_partial) {
        (true, _) => Some("the volume is mounted, or was not unmounted"),
        (false, true) => Some("the inspection met its limits"),
        (false, false) => None,
    };
    let bios = rule_bios(contents, unit);
    let uefi = [LoaderArchitecture::X86_64, LoaderArchitecture::Arm64]
        .map(|architecture| rule_uefi(contents, architecture, loader));
    let [x86_64, arm64] = uefi;
    [bios, x86_64, arm64].map(|ruling| rule_kernel(contents, ruling).unless(doubt))
}

fn rule_bios(contents: &Contents, unit: &LogicalUnit) -> Ruling {
    if unit.device_type != DISK {
        return Ruling::new(None, "the volume is no disk");
    }
    if unit.block_size != BIOS_BLOCK {
        return Ruling::new(
            false,
            format!("BIOS boot code needs blocks of 512 bytes, and the volume has {}", unit.block_size),
        );
    }
    match contents.boot_code {
        BootCode::NoSignature => Ruling::new(
            false,
            "volume has no boot code for BIOS firmware: the first sector has no boot signature",
        ),
        BootCode::Empty => Ruling::new(false, "no boot code"),
        BootCode::GrubWithoutCore => Ruling::new(false, "GRUB's core image is missing"),
        BootCode::NoActivePartition => Ruling::new(false, "the boot code finds no active partition"),
        BootCode::Grub => Ruling::new(true, "the boot code of GRUB"),
        BootCode::ActivePartition => Ruling::new(true, "the active partition"),
        BootCode::Other => Ruling::new(true, "its boot code"),
    }
}

fn rule_uefi(contents: &Contents, architecture: LoaderArchitecture, configured: Option<&str>) -> Ruling {
    let unreadable = contents.file_systems.iter().find(|file_system| {
        file_system.kind == FileSystemKind::Fat && file_system.fault.is_some()
            || file_system.kind == FileSystemKind::Iso9660
    });
    match contents.table {
        PartitionTable::GptDamaged => return Ruling::new(false, "both copies of the GPT are damaged"),
        PartitionTable::GptOfBlockSize(size) => {
            return Ruling::new(
                false,
                format!("the GPT was written for blocks of {size} bytes, which are not the volume's"),
            );
        }
        PartitionTable::None
        | PartitionTable::Unpartitioned
        | PartitionTable::Mbr
        | PartitionTable::Gpt
        | PartitionTable::GptBackup => {}
    }
    let mut loaders = contents.loaders.iter().filter(|loader| loader.architecture == architecture);
    if let Some(path) = configured {
        return match loaders.find(|loader| loader.path.eq_ignore_ascii_case(path)) {
            Some(loader) => Ruling::new(true, loader.path.clone()),
            None => Ruling::new(
                false,
                format!("no boot loader: uefi_loader names {path}, and the volume has no such loader"),
            ),
        };
    }
    if let Some(loader) = loaders.clone().find(|loader| loader.is_default) {
        return Ruling::new(true, loader.path.clone());
    }
    if let Some(file_system) = unreadable {
        return Ruling::new(None, format!("the {} file system cannot be read", file_system.kind.as_str()));
    }
    match (
        loaders.next(),
        contents.file_systems.iter().find(|file_system| file_system.kind == FileSystemKind::Luks),
    ) {
        (Some(loader), _) => {
            Ruling::new(false, format!("no boot loader at the default path, but {}", loader.path))
        }
        (None, Some(_)) if !contents.has_esp => {
            Ruling::new(false, "no boot loader: the volume is encrypted (LUKS)")
        }
        (None, _) if !contents.has_esp => Ruling::new(false, "no boot loader: no EFI system partition"),
        (None, _) => Ruling::new(false, "no boot loader"),
    }
}

/// A system whose kernel starts, but finds no disk, does not boot.
fn rule_kernel(contents: &Contents, ruling: Ruling) -> Ruling {
    if ruling.boots == Some(true) && contents.kernels.iter().all(|kernel| kernel.has_iscsi == Some(false)) {
        match contents.kernels.first() {
            None => {}
            Some(kernel @ KernelFiles { initramfs: None, .. }) => {
                return Ruling::new(false, format!("kernel {} has no initramfs", kernel.kernel));
            }
            Some(KernelFiles { initramfs: Some(initramfs), .. }) => {
                return Ruling::new(false, format!("no iSCSI in the initramfs {initramfs}"));
            }
        }
    }
    ruling
}

/// The loader to set as `uefi_loader`: neither the records nor the default path lead to a loader.
fn find_missing_loader(
    contents: &Contents,
    configured: Option<&str>,
    machine: Option<LoaderArchitecture>,
) -> Option<String> {
    let of = |architecture| {
        contents.loaders.iter().filter(move |loader: &&LoaderFile| loader.architecture == architecture)
    };
    let order = match machine {
        Some(architecture) => vec![architecture],
        None => vec![LoaderArchitecture::X86_64, LoaderArchitecture::Arm64],
    };
    let boots = |architecture| match configured {
        Some(path) => of(architecture).any(|loader| loader.path.eq_ignore_ascii_case(path)),
        None => of(architecture).any(|loader| loader.is_default),
    };
    if order.iter().any(|architecture| boots(*architecture)) {
        return None;
    }
    order.into_iter().find_map(|architecture| of(architecture).next()).map(|loader| loader.path.clone())
}

/// Remarks on the content, with remedies.
fn list_remarks(contents: &Contents, unit: &LogicalUnit, is_boot: bool, findings: &mut Vec<String>) {
    if unit.write_protected == Some(true) {
        findings.push(
            "The target refuses writes to the volume: the operating system may fail. Check the export."
                .to_owned(),
        );
    }
    if contents.file_systems.iter().any(|file_system| file_system.is_mounted) {
        findings.push(
            "A file system of the volume is mounted, or was not unmounted. Its faults are unsure until it is.".to_owned(),
        );
    }
    if contents.table == PartitionTable::GptBackup {
        findings.push(
            "The first copy of the GPT is damaged; some firmware ignores the second. Repair it: `sgdisk --verify` shows how."
                .to_owned(),
        );
    }
    for file_system in &contents.file_systems {
        if let Some(fault) = &file_system.fault {
            let (kind, number) = (file_system.kind.as_str(), file_system.partition);
            findings.push(format!(
                "The {kind} file system of partition {number} cannot be read: {}.",
                clean_text(fault)
            ));
        }
    }
    if !is_boot {
        return;
    }
    for kernel in &contents.kernels {
        match (&kernel.initramfs, kernel.has_iscsi) {
            (Some(path), Some(false)) => findings.push(format!(
                "The initramfs {path} cannot log in to iSCSI targets: the kernel starts and finds no disk. Install open-iscsi \
                 (Debian: with /etc/iscsi/iscsi.initramfs) or dracut's module iscsi, and build the initramfs again: \
                 /usr/share/volboot/os/prepare-system does so."
            )),
            (None, _) => findings.push(format!(
                "Kernel {} has no initramfs, so nothing logs in to the target. Build an initramfs with iSCSI.",
                kernel.kernel
            )),
            (Some(path), None) => findings.push(format!("The initramfs {path} cannot be read, so its iSCSI is unsure.")),
            (Some(_), Some(true)) => {}
        }
    }
}
