//! Partition tables: the MBR, and the GPT as firmware validates it (UEFI 2.10, §5.3.2).

use super::contents::PartitionTable;
use super::volume::Volume;

/// The most partitions that are inspected.
const MAX_PARTITIONS: usize = 64;
/// The most entries of a GPT, and their sizes in bytes.
const MAX_ENTRIES: u32 = 1024;
const ENTRY_SIZES: std::ops::RangeInclusive<u32> = 128..=4096;
/// The type of an EFI system partition, in the bytes of the entry.
const ESP: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
/// The MBR types of a protective record, of an EFI system partition, and of extended partitions.
const MBR_PROTECTIVE: u8 = 0xee;
const MBR_ESP: u8 = 0xef;
const MBR_EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];

/// A partition, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) number: u32,
    pub(super) start: u64,
    pub(super) length: u64,
    pub(super) is_esp: bool,
}

/// Reads the partition table. Logical partitions of an MBR are left out: no firmware boots from them.
pub(super) fn read_table(volume: &Volume) -> (PartitionTable, Vec<Partition>) {
    let Some(first) = volume.array_at::<512>(0).ok() else { return (PartitionTable::None, Vec::new()) };
    let records = if first[510..] == [0x55, 0xaa] { read_mbr(&first, volume) } else { Vec::new() };
    let is_protective = records.iter().any(|(kind, _)| *kind == MBR_PROTECTIVE);
    let block = volume.block_size();
    let last = (volume.size() / block).saturating_sub(1);
    let candidates = [(1, PartitionTable::Gpt), (last, PartitionTable::GptBackup)];
    for (header, table) in candidates {
        if let Some(partitions) = read_gpt(volume, header) {
            return (table, partitions);
        }
    }
    let other_size = [512, 4096].into_iter().find(|size| *size != block && has_gpt_signature(volume, *size));
    if let Some(size) = other_size {
        return (PartitionTable::GptOfBlockSize(size as u32), Vec::new());
    }
    if is_protective || has_gpt_signature(volume, block) {
        return (PartitionTable::GptDamaged, Vec::new());
    }
    let partitions: Vec<_> = records.into_iter().map(|(_, partition)| partition).collect();
    let table = if partitions.is_empty() { PartitionTable::None } else { PartitionTable::Mbr };
    (table, partitions)
}

fn has_gpt_signature(volume: &Volume, offset: u64) -> bool {
    volume.array_at(offset).is_ok_and(|signature: [u8; 8]| signature == *b"EFI PART")
}

/// The primary partitions of an MBR, with their types. The boot sector of a file system has no valid records.
fn read_mbr(sector: &[u8; 512], volume: &Volume) -> Vec<(u8, Partition)> {
    let mut partitions = Vec::new();
    for (number, record) in (1..).zip(sector[446..510].as_chunks::<16>().0) {
        let (status, kind) = (record[0], record[4]);
        let number_at = |at: usize| {
            u64::from(u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]))
        };
        let (start, length) = (number_at(8) * volume.block_size(), number_at(12) * volume.block_size());
        if status & 0x7f != 0 {
            return Vec::new();
        }
        if kind != 0 && !MBR_EXTENDED.contains(&kind) && start > 0 && length > 0 && start < volume.size() {
            partitions.push((kind, Partition { number, start, length, is_esp: kind == MBR_ESP }));
        }
    }
    partitions
}

/// Reads the GPT whose header is in this block. `None` if firmware would not accept it.
fn read_gpt(volume: &Volume, block: u64) -> Option<Vec<Partition>> {
    let size = volume.block_size();
    let mut header = volume.array_at::<92>(block.checked_mul(size)?).ok()?;
    let number = |header: &[u8; 92], at: usize| {
        u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let long = |header: &[u8; 92], at: usize| {
        u64::from(number(header, at)) | u64::from(number(header, at + 4)) << 32
    };
    if header[..8] != *b"EFI PART" || number(&header, 12) != 92 || long(&header, 24) != block {
        return None;
    }
    let checksum = number(&header, 16);
    header[16..20].fill(0);
    if crc32fast::hash(&header) != checksum {
        return None;
    }
    let (count, entry_size) = (number(&header, 80), number(&header, 84));
    if count > MAX_ENTRIES || !ENTRY_SIZES.contains(&entry_size) || !entry_size.is_power_of_two() {
        return None;
    }
    let mut entries = vec![0; (count * entry_size) as usize];
    volume.read_at(long(&header, 72).checked_mul(size)?, &mut entries).ok()?;
    if crc32fast::hash(&entries) != number(&header, 88) {
        return None;
    }
    let mut partitions = Vec::new();
    for (number, entry) in (1..).zip(entries.chunks_exact(entry_size as usize)) {
        let long = |at: usize| {
            entry[at..at + 8].iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
        };
        let (first, last) = (long(32), long(40));
        let is_used = entry[..16].iter().any(|byte| *byte != 0);
        if !is_used || last < first || partitions.len() == MAX_PARTITIONS {
            continue;
        }
        let Some(start) = first.checked_mul(size).filter(|start| *start < volume.size()) else { continue };
        let length = (last - first).saturating_add(1).saturating_mul(size);
        partitions.push(Partition { number, start, length, is_esp: entry[..16] == ESP });
    }
    Some(partitions)
}
