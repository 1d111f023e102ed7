//! Volumes for tests, byte by byte.

use std::io::{Cursor, Write as _};

use fatfs::{FatType, FormatVolumeOptions, FsOptions};

/// The type of an EFI system partition, as in GPT entries.
const ESP: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
/// The type of a Linux file system.
const LINUX: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];

/// A PE file with this `Machine`.
pub(super) fn pe_file(machine: u16) -> Vec<u8> {
    let mut file = vec![0; 512];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x80;
    file[0x80..0x84].copy_from_slice(b"PE\0\0");
    file[0x84..0x86].copy_from_slice(&machine.to_le_bytes());
    file
}

/// A FAT with these files.
pub(super) fn fat(block_size: u16, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut image = Cursor::new(vec![0; 4 << 20]);
    let options = FormatVolumeOptions::new().bytes_per_sector(block_size).fat_type(FatType::Fat12);
    fatfs::format_volume(&mut image, options).expect("a FAT");
    {
        let tree = fatfs::FileSystem::new(&mut image, FsOptions::new()).expect("a FAT");
        for (path, content) in files {
            for (end, _) in path.match_indices('/') {
                tree.root_dir().create_dir(&path[..end]).expect("a folder");
            }
            tree.root_dir().create_file(path).expect("a file").write_all(content).expect("written");
        }
    }
    image.into_inner()
}

/// The ext4 of `tests/golden/volumes`, made by `mke2fs -d`.
pub(super) fn ext4(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/volumes/{name}.ext4.gz", env!("CARGO_MANIFEST_DIR"));
    let mut image = Vec::new();
    let file = std::fs::File::open(path).expect("a golden volume");
    std::io::copy(&mut flate2::read::GzDecoder::new(file), &mut image).expect("an image");
    image
}

/// A volume with a GPT: an EFI system partition, and partitions of Linux.
pub(super) fn gpt(block_size: usize, partitions: &[Vec<u8>]) -> Vec<u8> {
    let mut volume = vec![0; 1 << 20];
    let mut entries = vec![0; 128 * 128];
    for (at, partition) in partitions.iter().enumerate() {
        let first = volume.len() / block_size;
        volume.extend_from_slice(partition);
        volume.resize(volume.len().next_multiple_of(1 << 20), 0);
        let entry = &mut entries[at * 128..][..128];
        entry[..16].copy_from_slice(if at == 0 { &ESP } else { &LINUX });
        entry[16] = at as u8 + 1;
        entry[32..40].copy_from_slice(&(first as u64).to_le_bytes());
        entry[40..48].copy_from_slice(&((volume.len() / block_size - 1) as u64).to_le_bytes());
    }
    volume.resize(volume.len() + (1 << 20), 0);
    let last = volume.len() / block_size - 1;
    for (own, other, table) in [(1, last, 2), (last, 1, last - entries.len() / block_size)] {
        let mut header = [0; 92];
        header[..8].copy_from_slice(b"EFI PART");
        header[8..16].copy_from_slice(&[0, 0, 1, 0, 92, 0, 0, 0]);
        header[24..32].copy_from_slice(&(own as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(other as u64).to_le_bytes());
        header[72..80].copy_from_slice(&(table as u64).to_le_bytes());
        header[80..88].copy_from_slice(&[128, 0, 0, 0, 128, 0, 0, 0]);
        header[88..92].copy_from_slice(&crc32fast::hash(&entries).to_le_bytes());
        let checksum = crc32fast::hash(&header);
        header[16..20].copy_from_slice(&checksum.to_le_bytes());
        volume[own * block_size..][..92].copy_from_slice(&header);
        volume[table * block_size..][..entries.len()].copy_from_slice(&entries);
    }
    // The protective MBR.
    volume[446 + 4] = 0xee;
    volume[446 + 8] = 1;
    volume[446 + 12..446 + 16].fill(0xff);
    volume[510..512].copy_from_slice(&[0x55, 0xaa]);
    volume
}
