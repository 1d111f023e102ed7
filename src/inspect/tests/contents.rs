//! What the inspection finds on volumes of each kind.

use std::io::Write as _;

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::{prop_assert, proptest};

use super::MemorySource;
use super::check::check_input;
use super::images::{ext4, fat, gpt, pe_file};
use crate::inspect::survey::survey;
use crate::inspect::volume::Volume;
use crate::inspect::{BootCode, Contents, FileSystemKind, LoaderArchitecture, PartitionTable};

const X86_64: u16 = 0x8664;
const ARM64: u16 = 0xaa64;

fn inspect(volume: Vec<u8>, block_size: u32) -> Contents {
    let size = volume.len() as u64;
    survey(&Volume::new(Box::new(MemorySource(volume)), size, block_size), Some(r"\EFI\own\loader.efi"))
}

fn paths(contents: &Contents) -> Vec<&str> {
    contents.loaders.iter().map(|loader| loader.path.as_str()).collect()
}

#[test]
fn loaders_are_found_by_path_and_pe_header() {
    let (x86, arm) = (pe_file(X86_64), pe_file(ARM64));
    for block_size in [512, 4096] {
        let esp = fat(
            block_size,
            &[
                ("EFI/debian/grubx64.efi", &x86),
                ("EFI/debian/shimx64.efi", &x86),
                ("EFI/debian/mmx64.efi", &x86),
            ],
        );
        let contents = inspect(gpt(block_size.into(), &[esp]), block_size.into());
        assert_eq!((contents.table, contents.has_esp), (PartitionTable::Gpt, true));
        assert_eq!(paths(&contents), [r"\EFI\debian\shimx64.efi", r"\EFI\debian\grubx64.efi"]);
        assert!(!contents.loaders[0].is_default);
    }
    let esp = fat(512, &[("EFI/BOOT/BOOTX64.EFI", &x86), ("EFI/BOOT/BOOTAA64.EFI", &arm)]);
    let contents = inspect(gpt(512, std::slice::from_ref(&esp)), 512);
    assert!(contents.loaders.iter().all(|loader| loader.is_default));
    assert_eq!(contents.loaders[1].architecture, LoaderArchitecture::Arm64);
    // The same FAT without a partition table.
    let contents = inspect(esp, 512);
    assert_eq!((contents.table, contents.loaders.len()), (PartitionTable::Unpartitioned, 2));
    assert_eq!(contents.boot_code, BootCode::Empty);
    // The path in the records.
    let esp = fat(512, &[("EFI/own/loader.efi", &x86), ("EFI/own/unknown.efi", &x86)]);
    assert_eq!(paths(&inspect(gpt(512, &[esp]), 512)), [r"\EFI\own\loader.efi"]);
    // A loader for another architecture, and a file that is no loader.
    let esp = fat(512, &[("EFI/BOOT/BOOTX64.EFI", &arm), ("EFI/BOOT/BOOTAA64.EFI", b"MZ")]);
    let contents = inspect(gpt(512, &[esp]), 512);
    assert_eq!(contents.loaders.len(), 1);
    assert!(!contents.loaders[0].is_default, "{contents:?}");
}

#[test]
fn tables_are_told_apart() {
    assert_eq!(inspect(vec![0; 1 << 20], 512), Contents::default());
    let volume = gpt(512, &[fat(512, &[])]);
    assert_eq!(inspect(volume.clone(), 4096).table, PartitionTable::GptOfBlockSize(512));
    assert_eq!(inspect(volume.clone(), 512).boot_code, BootCode::Empty);
    let mut damaged = volume.clone();
    damaged[512 + 40] ^= 1;
    assert_eq!(inspect(damaged.clone(), 512).table, PartitionTable::GptBackup);
    let last = damaged.len() - 512;
    damaged[last + 40] ^= 1;
    assert_eq!(inspect(damaged, 512).table, PartitionTable::GptDamaged);
    let mut luks = vec![0; 1 << 20];
    luks[..6].copy_from_slice(b"LUKS\xba\xbe");
    let contents = inspect(luks, 512);
    assert_eq!(contents.file_systems[0].kind, FileSystemKind::Luks);
}

#[test]
fn boot_code_is_told_apart() {
    let sector = |text: &[u8]| {
        let mut volume = vec![0; 1 << 20];
        volume[0x180..0x180 + text.len()].copy_from_slice(text);
        volume[510..512].copy_from_slice(&[0x55, 0xaa]);
        volume
    };
    assert_eq!(inspect(sector(b"hello"), 512).boot_code, BootCode::Other);
    let mut grub = sector(b"GRUB \0Geom\0");
    grub[0x5c] = 1;
    assert_eq!(inspect(grub.clone(), 512).boot_code, BootCode::GrubWithoutCore);
    grub[512] = 0x52;
    assert_eq!(inspect(grub, 512).boot_code, BootCode::Grub);
    let mut windows = sector(b"Missing operating system");
    assert_eq!(inspect(windows.clone(), 512).boot_code, BootCode::NoActivePartition);
    windows[446..462].copy_from_slice(&[0x80, 0, 0, 0, 7, 0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0]);
    windows[1024 * 512 + 510..1024 * 512 + 512].copy_from_slice(&[0x55, 0xaa]);
    let contents = inspect(windows, 512);
    assert_eq!((contents.boot_code, contents.table), (BootCode::ActivePartition, PartitionTable::Mbr));
}

#[test]
fn a_mounted_file_system_is_recognized() {
    let mut esp = fat(512, &[]);
    assert!(!inspect(esp.clone(), 512).file_systems[0].is_mounted);
    esp[0x25] |= 1;
    assert!(inspect(esp, 512).file_systems[0].is_mounted);
    let mut root = ext4("iscsi-gzip");
    assert!(!inspect(root.clone(), 512).file_systems[0].is_mounted);
    root[1024 + 0x60] |= 4;
    assert!(inspect(root, 512).file_systems[0].is_mounted);
}

#[test]
fn iscsi_is_found_in_every_compression() {
    for (name, expected) in [
        ("iscsi-gzip", Some(true)),
        ("iscsi-xz", Some(true)),
        ("iscsi-zstd", Some(true)),
        ("iscsi-lz4", Some(true)),
        ("iscsi-early", Some(true)),
        ("plain-gzip", Some(false)),
        ("plain-xz", Some(false)),
        ("plain-zstd", Some(false)),
        ("plain-lz4", Some(false)),
        ("unknown", None),
    ] {
        let contents = inspect(gpt(512, &[fat(512, &[]), ext4(name)]), 512);
        assert_eq!(contents.kernels.len(), 1, "{name}: {contents:?}");
        let kernel = &contents.kernels[0];
        assert_eq!(kernel.kernel, "/boot/vmlinuz-6.1.0-32-amd64");
        assert_eq!(kernel.initramfs.as_deref(), Some("/boot/initrd.img-6.1.0-32-amd64"));
        assert_eq!(kernel.has_iscsi, expected, "{name}");
        assert!(!contents.is_partial);
    }
}

#[test]
fn limits_end_an_inspection() {
    // An initramfs of zeros that decompresses to 64 MiB.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).expect("compressed");
    }
    let bomb = encoder.finish().expect("compressed");
    let volume = fat(512, &[("vmlinuz-1", b"kernel"), ("initrd.img-1", &bomb)]);
    for (limits, expected) in
        [((1 << 30, 1 << 30), Some(false)), ((1 << 30, 8 << 20), None), ((256 << 10, 1 << 30), None)]
    {
        let source = Box::new(MemorySource(volume.clone()));
        let contents = survey(&Volume::with_limits(source, volume.len() as u64, 512, limits), None);
        assert_eq!(contents.is_partial, expected.is_none(), "{contents:?}");
        let has_iscsi = contents.kernels.first().and_then(|kernel| kernel.has_iscsi);
        assert_eq!(has_iscsi, None, "zeros are no archive");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_inspected(input in vec(any::<u8>(), 0..4096)) {
        check_input(&input);
    }

    /// Changed bytes of a real volume reach the parsers behind the signatures.
    #[test]
    fn changed_bytes_are_inspected(at in 0_usize..70_000, changes in vec(any::<u8>(), 1..16), choice in 0..2) {
        let mut image = match choice {
            0 => ext4("plain-gzip"),
            _ => fat(512, &[("EFI/BOOT/BOOTX64.EFI", &pe_file(X86_64))]),
        };
        let at = at % image.len().min(70_000);
        let end = (at + changes.len()).min(image.len());
        image[at..end].copy_from_slice(&changes[..end - at]);
        let contents = inspect(image, 512);
        prop_assert!(contents.loaders.len() <= 1);
    }
}
