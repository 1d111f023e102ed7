//! Rulings on volumes by probes and contents, without sockets.

use std::io;
use std::sync::Arc;

use super::judge::judge_volume;
use super::portal::{PathProbe, ProbeError};
use super::report::VolumeReport;
use super::{Boots, CheckRequest, PortalLogin, RequestedVolume, VolumeRole};
use crate::inspect::{
    BootCode, Contents, FileSystem, FileSystemKind, KernelFiles, LoaderArchitecture, LoaderFile,
    PartitionTable,
};
use crate::iscsi::{CommandFault, Error, LogicalUnit, LoginRefusal};
use crate::model::{Connection, SanUri};

const PATH: &str = "iscsi:192.0.2.1::3260:1:iqn.2026-01.org.example:root";
const NO: Option<bool> = Some(false);
const YES: Option<bool> = Some(true);

fn unit() -> LogicalUnit {
    LogicalUnit {
        device_type: 0,
        model: "disk".to_owned(),
        blocks: 2048,
        block_size: 512,
        write_protected: NO,
    }
}

fn loader(path: &str, is_default: bool) -> LoaderFile {
    LoaderFile { path: path.to_owned(), architecture: LoaderArchitecture::X86_64, is_default }
}

fn esp(loaders: &[LoaderFile]) -> Contents {
    Contents {
        boot_code: BootCode::Empty,
        table: PartitionTable::Gpt,
        has_esp: true,
        loaders: loaders.to_vec(),
        ..Contents::default()
    }
}

fn error(error: Error) -> ProbeError {
    ProbeError { error: Arc::new(error), is_remembered: false }
}

/// A path with this login, unit and content.
fn probe(
    login: Result<bool, ProbeError>,
    unit: Option<Result<LogicalUnit, ProbeError>>,
    contents: Option<Contents>,
) -> PathProbe {
    let path: SanUri = PATH.parse().expect("a path");
    PathProbe { position: 0, path, reachable: true, login, unit, contents: contents.map(Ok) }
}

fn judge_with(loader: Option<&str>, probes: &[PathProbe]) -> VolumeReport {
    judge_as(VolumeRole::Boot, loader, probes)
}

fn judge_as(role: VolumeRole, loader: Option<&str>, probes: &[PathProbe]) -> VolumeReport {
    let connection = Connection { paths: vec![PATH.parse().expect("a path")], chap: None };
    let volume = RequestedVolume {
        id: "root".to_owned(),
        role,
        is_boot: role == VolumeRole::Boot,
        loader: loader.map(|path| path.parse().expect("a loader")),
        connection: Ok(connection),
    };
    let request = CheckRequest {
        node: uuid::Uuid::nil(),
        initiator: Ok("iqn.2017-08.org.example:web-1".to_owned()),
        architecture: None,
        volumes: vec![volume.clone()],
    };
    judge_volume(&request, &volume, probes)
}

fn judge_content(loader: Option<&str>, contents: Contents) -> VolumeReport {
    judge_with(loader, &[probe(Ok(true), Some(Ok(unit())), Some(contents))])
}

fn boots(volume: &VolumeReport) -> [Option<bool>; 3] {
    let Boots { bios, uefi_x86_64, uefi_arm64 } = volume.boots;
    [bios, uefi_x86_64, uefi_arm64]
}

#[test]
fn the_default_path_needs_no_loader_and_another_one_does() {
    let default = loader(r"\EFI\BOOT\BOOTX64.EFI", true);
    let shim = loader(r"\EFI\debian\shimx64.efi", false);
    let volume = judge_content(None, esp(&[default, shim.clone()]));
    assert_eq!((boots(&volume), &volume.uefi_loader), ([NO, YES, NO], &None));
    assert_eq!(
        volume.verdict,
        [
            "not on BIOS: no boot code",
            r"boots on UEFI x86_64, by \EFI\BOOT\BOOTX64.EFI",
            "not on UEFI arm64: no boot loader",
        ]
    );
    let volume = judge_content(None, esp(std::slice::from_ref(&shim)));
    assert_eq!((boots(&volume), volume.uefi_loader.as_deref()), ([NO; 3], Some(shim.path.as_str())));
    let volume = judge_content(Some(&shim.path), esp(std::slice::from_ref(&shim)));
    assert_eq!((boots(&volume), &volume.uefi_loader), ([NO, YES, NO], &None));
    let volume = judge_content(Some(r"\EFI\other.efi"), esp(std::slice::from_ref(&shim)));
    assert_eq!((boots(&volume), volume.uefi_loader.as_deref()), ([NO; 3], Some(shim.path.as_str())));
}

#[test]
fn a_system_without_iscsi_in_its_initramfs_does_not_boot() {
    let kernel = |has_iscsi| KernelFiles {
        kernel: "/boot/vmlinuz-6".to_owned(),
        initramfs: Some("/boot/initrd.img-6".to_owned()),
        has_iscsi,
    };
    let contents = |kernels| Contents { boot_code: BootCode::Grub, kernels, ..Contents::default() };
    assert_eq!(boots(&judge_content(None, contents(vec![kernel(NO)])))[0], NO);
    assert_eq!(boots(&judge_content(None, contents(vec![kernel(NO), kernel(YES)])))[0], YES);
    let unsure = judge_content(None, contents(vec![kernel(None)]));
    assert_eq!(boots(&unsure)[0], YES);
    assert!(unsure.findings[0].contains("its iSCSI is unsure"), "{:?}", unsure.findings);
}

#[test]
fn faults_of_a_mounted_volume_are_unsure() {
    let root = FileSystem { partition: 2, kind: FileSystemKind::Ext, is_mounted: true, fault: None };
    let contents = Contents { file_systems: vec![root], boot_code: BootCode::Grub, ..Contents::default() };
    let volume = judge_content(None, contents);
    assert_eq!(boots(&volume), [YES, None, None]);
    assert!(
        volume.verdict[1].ends_with("(the volume is mounted, or was not unmounted)"),
        "{:?}",
        volume.verdict
    );
}

#[test]
fn refusals_are_certain_and_unreachable_portals_are_not() {
    let refused = || Err(error(Error::Refused(LoginRefusal::AUTHENTICATION)));
    let dead = || Err(error(Error::Connect(io::ErrorKind::ConnectionRefused.into())));
    let volume = judge_with(None, &[probe(refused(), None, None)]);
    assert_eq!(boots(&volume), [NO; 3]);
    let login = PortalLogin::Failed("target rejected CHAP credentials (iSCSI login status 0201)".to_owned());
    assert_eq!(volume.portals[0].login, login);
    assert!(volume.findings[0].contains("Compare auth_username"), "{:?}", volume.findings);
    for probes in
        [vec![probe(dead(), None, None)], vec![probe(refused(), None, None), probe(dead(), None, None)]]
    {
        assert_eq!(boots(&judge_with(None, &probes)), [None; 3]);
    }
    for (fault, expected) in [
        (CommandFault::NoLogicalUnit, NO),
        (CommandFault::ReservationConflict, None),
        (CommandFault::Status(0x22), None),
    ] {
        let unit = Err(error(Error::Command(fault)));
        assert_eq!(boots(&judge_with(None, &[probe(Ok(true), Some(unit), None)])), [expected; 3], "{fault}");
    }
    // One portal of two is enough.
    let good = probe(Ok(true), Some(Ok(unit())), Some(esp(&[loader(r"\EFI\BOOT\BOOTX64.EFI", true)])));
    assert_eq!(boots(&judge_with(None, &[probe(dead(), None, None), good])), [NO, YES, NO]);
}

#[test]
fn blocks_of_4096_bytes_are_nothing_for_bios() {
    let unit = LogicalUnit { block_size: 4096, ..unit() };
    let contents = Contents {
        boot_code: BootCode::Grub,
        table: PartitionTable::GptOfBlockSize(512),
        ..Contents::default()
    };
    let volume = judge_with(None, &[probe(Ok(false), Some(Ok(unit)), Some(contents))]);
    assert_eq!(boots(&volume), [NO; 3]);
}

#[test]
fn a_fallback_without_a_loader_is_found_before_it_is_due() {
    let shim = loader(r"\EFI\debian\shimx64.efi", false);
    let probes = [probe(Ok(true), Some(Ok(unit())), Some(esp(std::slice::from_ref(&shim))))];
    let volume = judge_as(VolumeRole::Fallback, None, &probes);
    assert_eq!((volume.is_boot, volume.uefi_loader.as_deref()), (false, Some(shim.path.as_str())));
    let remedy =
        r"Set uefi_loader of the fallback to \EFI\debian\shimx64.efi: `volboot fallback --uefi-loader`.";
    assert!(volume.findings.iter().any(|finding| finding == remedy), "{:?}", volume.findings);
    let volume = judge_as(VolumeRole::Fallback, Some(&shim.path), &probes);
    assert_eq!((boots(&volume), volume.uefi_loader), ([NO, YES, NO], None));
    let probes = [probe(Ok(true), Some(Ok(unit())), Some(Contents::default()))];
    let volume = judge_as(VolumeRole::Fallback, None, &probes);
    assert!(volume.findings.iter().any(|text| text.contains("as the fallback")), "{:?}", volume.findings);
    assert_eq!(judge_as(VolumeRole::Data, None, &probes).findings.len(), 0);
}
