//! Inspects the content of a volume, for its boot: boot code, partition table, boot loaders, kernel and initramfs.
//!
//! Tenants wrote every byte of it. So the parsers run in a process of their own, without secrets, files and network:
//! [`run_child`] is the body of the subcommand `inspect-volume`. The parent process answers its requests for bytes.
//!
//! | file | purpose |
//! |---|---|
//! | `contents` | [`Contents`], the result |
//! | `survey` | the order of the inspection |
//! | `volume` | reads a volume through a cache, within limits; a partition as a file |
//! | `boot_sector` | the boot code in the first sector, for BIOS |
//! | `table` | MBR and GPT |
//! | `file_system` | the kind of a file system, and whether it is mounted |
//! | `file_tree` | files of FAT and ext4 |
//! | `loaders` | boot loaders for UEFI |
//! | `kernel`, `initramfs`, `decompress` | kernel, initramfs, and iSCSI in it |
//! | `protocol` | messages between the process and its parent |
//! | `child`, `sandbox` | the process, and its limits |
//!
//! FAT and ext4 are read by `fatfs` and `ext4-view`, which is read-only and replays a journal in memory. The partition
//! tables are read here. `gpt` 4.1 asserts on a header's fields, trusts its number of entries, and demands a device that
//! can be written. `mbrman` 0.6 brings ten crates for four records of 16 bytes. Decompression is safe Rust: `flate2` on
//! `miniz_oxide`, `lzma-rust2`, `ruzstd`, `lz4_flex`.
//!
//! Limits: 64 MiB are read from a volume, and 1 GiB is parsed, cached reads and decompressed bytes included.

mod boot_sector;
mod child;
mod contents;
mod decompress;
mod file_system;
mod file_tree;
mod initramfs;
mod kernel;
mod loaders;
mod protocol;
mod sandbox;
mod survey;
mod table;
#[cfg(any(test, fuzzing))]
pub(crate) mod tests;
mod volume;

pub use child::run as run_child;
pub use contents::{
    BootCode, Contents, FileSystem, FileSystemKind, KernelFiles, LoaderArchitecture, LoaderFile,
    PartitionTable,
};
pub use protocol::{ChildMessage, MAX_REPORT, MAX_REQUEST, encode_blocks, read_message};
