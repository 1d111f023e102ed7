//! The boot code in the first sector of a volume, as BIOS meets it.

use super::contents::BootCode;
use super::volume::Volume;

/// The bytes before the disk signature and the partition records.
const CODE: std::ops::Range<usize> = 0..440;
/// The first block of GRUB's core image, in GRUB's boot sector (`GRUB_BOOT_MACHINE_KERNEL_SECTOR`). GRUB counts sectors
/// of 512 bytes.
const GRUB_CORE: std::ops::Range<usize> = 0x5c..0x64;
/// Words of the boot sectors that start the active partition: Windows, syslinux, and Debian's `mbr`.
const ACTIVE_PARTITION_WORDS: [&[u8]; 3] =
    [b"Invalid partition table", b"Missing operating system", b"MBR \x10"];

/// Classifies the boot code. An unreadable sector has none.
pub(super) fn find_boot_code(volume: &Volume) -> BootCode {
    let Ok(sector) = volume.array_at::<512>(0) else { return BootCode::NoSignature };
    if sector[510..] != [0x55, 0xaa] {
        return BootCode::NoSignature;
    }
    let code = &sector[CODE];
    if code.iter().all(|byte| *byte == 0) {
        return BootCode::Empty;
    }
    let contains = |word: &[u8]| sector.windows(word.len()).any(|window| window == word);
    if contains(b"GRUB ") {
        let mut first = [0; 8];
        first.copy_from_slice(&sector[GRUB_CORE]);
        let first = u64::from_le_bytes(first).checked_mul(512);
        let image =
            first.filter(|offset| *offset != 0).and_then(|offset| volume.array_at::<512>(offset).ok());
        return match image {
            Some(image) if image.iter().any(|byte| *byte != 0) => BootCode::Grub,
            _ => BootCode::GrubWithoutCore,
        };
    }
    if ACTIVE_PARTITION_WORDS.iter().any(|word| contains(word)) {
        let records = sector[446..510].as_chunks::<16>().0;
        let starts_system = |record: &[u8; 16]| {
            let first = u64::from(u32::from_le_bytes([record[8], record[9], record[10], record[11]]));
            let boot_sector = volume.array_at::<512>(first * volume.block_size());
            record[0] == 0x80 && first > 0 && boot_sector.is_ok_and(|sector| sector[510..] == [0x55, 0xaa])
        };
        let has_active = records.iter().any(starts_system);
        return if has_active { BootCode::ActivePartition } else { BootCode::NoActivePartition };
    }
    // A file system that begins with the volume has a boot sector of its own, which prints a message.
    let is_file_system =
        sector[54..59] == *b"FAT12" || sector[54..59] == *b"FAT16" || sector[82..87] == *b"FAT32";
    if is_file_system || sector[3..7] == *b"NTFS" { BootCode::Empty } else { BootCode::Other }
}
