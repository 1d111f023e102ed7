//! The kind of a file system by its superblock, and the signs of a mounted one.

use super::contents::FileSystemKind;
use super::volume::Region;

/// The superblock of ext4, and fields in it (`struct ext4_super_block` of Linux).
const EXT_SUPERBLOCK: u64 = 1024;
const EXT_STATE: u64 = EXT_SUPERBLOCK + 0x3a;
const EXT_INCOMPATIBLE: u64 = EXT_SUPERBLOCK + 0x60;
/// `EXT4_VALID_FS`: unmounted cleanly. `EXT4_FEATURE_INCOMPAT_RECOVER`: the journal is in use.
const EXT_VALID: u8 = 1;
const EXT_RECOVER: u8 = 4;
/// Signatures: offset, bytes, kind.
const SIGNATURES: [(u64, &[u8], FileSystemKind); 9] = [
    (0, b"LUKS\xba\xbe", FileSystemKind::Luks),
    (0, b"XFSB", FileSystemKind::Xfs),
    (3, b"NTFS    ", FileSystemKind::Ntfs),
    (54, b"FAT1", FileSystemKind::Fat),
    (82, b"FAT32", FileSystemKind::Fat),
    (512, b"LABELONE", FileSystemKind::Lvm),
    (EXT_SUPERBLOCK + 0x38, b"\x53\xef", FileSystemKind::Ext),
    (0x1_0040, b"_BHRfS_M", FileSystemKind::Btrfs),
    (0x8001, b"CD001", FileSystemKind::Iso9660),
];

/// The kind of the file system in a region.
pub(super) fn find_kind(region: &Region) -> Option<FileSystemKind> {
    let mut signatures = SIGNATURES.iter();
    signatures.find(|(offset, bytes, _)| region.has(*offset, bytes)).map(|(_, _, kind)| *kind)
}

/// Whether a file system is mounted, or was not unmounted: a machine uses it, or has crashed.
pub(super) fn is_mounted(region: &Region, kind: FileSystemKind) -> bool {
    let byte = |offset| {
        let mut byte = [0];
        region.read_at(offset, &mut byte).ok().map(|()| byte[0])
    };
    match kind {
        FileSystemKind::Ext => {
            byte(EXT_INCOMPATIBLE).is_some_and(|flags| flags & EXT_RECOVER != 0)
                || byte(EXT_STATE).is_some_and(|state| state & EXT_VALID == 0)
        }
        // Linux sets this bit of the boot sector while a FAT is mounted to be written (`FAT_STATE_DIRTY`).
        FileSystemKind::Fat => {
            let offset = if region.has(82, b"FAT32") { 0x41 } else { 0x25 };
            byte(offset).is_some_and(|state| state & 1 != 0)
        }
        _ => false,
    }
}
