//! [`Contents`]: what an inspection found on a volume.

use serde::{Deserialize, Serialize};

/// What an inspection found. Paths are the volume's own text: a reader has to check them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The boot code of the first sector.
    pub boot_code: BootCode,
    /// The partition table.
    pub table: PartitionTable,
    /// Whether a partition has the type of an EFI system partition.
    pub has_esp: bool,
    /// The file systems, or the containers of such, in the order of the volume.
    pub file_systems: Vec<FileSystem>,
    /// The boot loaders for UEFI, the default paths first.
    pub loaders: Vec<LoaderFile>,
    /// The newest kernel of each file system that has one.
    pub kernels: Vec<KernelFiles>,
    /// Whether the inspection met its limits before its end.
    pub is_partial: bool,
}

/// The code in the first sector, which BIOS executes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BootCode {
    /// The sector has no boot signature (55AAh).
    #[default]
    NoSignature,
    /// A signature, but no code.
    Empty,
    /// GRUB, with its core image where the boot sector looks for it.
    Grub,
    /// GRUB without its core image.
    GrubWithoutCore,
    /// Code that starts the active partition, and an active partition with a boot sector.
    ActivePartition,
    /// Code that starts the active partition, without such a partition.
    NoActivePartition,
    /// Other code.
    Other,
}

/// The partition table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartitionTable {
    /// No table.
    #[default]
    None,
    /// A file system that begins with the volume.
    Unpartitioned,
    /// An MBR.
    Mbr,
    /// A GPT.
    Gpt,
    /// A GPT whose first copy is damaged; the second copy is valid.
    GptBackup,
    /// Both copies of the GPT are damaged.
    GptDamaged,
    /// A GPT written for blocks of this size, which is not the volume's.
    GptOfBlockSize(u32),
}

/// A file system, or a container of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// The number of the partition; 0 for the whole volume.
    pub partition: u32,
    /// The kind.
    pub kind: FileSystemKind,
    /// Whether the file system is mounted, or was not unmounted.
    pub is_mounted: bool,
    /// Why the file system cannot be read.
    pub fault: Option<String>,
}

/// The kind of a file system, by its superblock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSystemKind {
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// NTFS.
    Ntfs,
    /// ISO 9660.
    Iso9660,
    /// A LUKS container.
    Luks,
    /// A physical volume of LVM.
    Lvm,
}

impl FileSystemKind {
    /// The name for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fat => "FAT",
            Self::Ext => "ext4",
            Self::Xfs => "XFS",
            Self::Btrfs => "Btrfs",
            Self::Ntfs => "NTFS",
            Self::Iso9660 => "ISO 9660",
            Self::Luks => "LUKS",
            Self::Lvm => "LVM",
        }
    }
}

/// The architecture of a UEFI loader, by its PE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoaderArchitecture {
    /// x86_64.
    X86_64,
    /// arm64.
    Arm64,
}

/// A boot loader for UEFI.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoaderFile {
    /// The path, with `\` as separator.
    pub path: String,
    /// The architecture.
    pub architecture: LoaderArchitecture,
    /// Whether the firmware finds the file by itself (UEFI 2.10, §3.5.1.1).
    pub is_default: bool,
}

/// A Linux kernel and its initramfs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelFiles {
    /// The kernel's path.
    pub kernel: String,
    /// The path of the initramfs; `None` if there is none for this kernel.
    pub initramfs: Option<String>,
    /// Whether the initramfs can log in to iSCSI targets; `None` if it cannot be read.
    pub has_iscsi: Option<bool>,
}
