//! [`survey`]: the inspection of a volume, from its first sector to the initramfs.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::boot_sector::find_boot_code;
use super::contents::{Contents, FileSystem, FileSystemKind, KernelFiles, LoaderFile, PartitionTable};
use super::file_system::{find_kind, is_mounted};
use super::file_tree::open_tree;
use super::kernel::find_kernel;
use super::loaders::find_loaders;
use super::table::{Partition, read_table};
use super::volume::{Region, Volume};

/// Inspects a volume. A fault of a part is in the result, and the other parts are inspected.
/// `loader` is a path to look for beside the usual ones.
pub(super) fn survey(volume: &Volume, loader: Option<&str>) -> Contents {
    let (table, mut partitions) = read_table(volume);
    let mut contents = Contents { boot_code: find_boot_code(volume), table, ..Contents::default() };
    let whole = Partition { number: 0, start: 0, length: volume.size(), is_esp: false };
    if matches!(table, PartitionTable::None) {
        partitions.push(whole);
    }
    contents.has_esp = partitions.iter().any(|partition| partition.is_esp);
    for partition in &partitions {
        survey_partition(volume, partition, loader, &mut contents);
    }
    if matches!(table, PartitionTable::None) && !contents.file_systems.is_empty() {
        contents.table = PartitionTable::Unpartitioned;
    }
    contents.is_partial = volume.is_exhausted();
    contents
}

fn survey_partition(volume: &Volume, partition: &Partition, loader: Option<&str>, contents: &mut Contents) {
    let region = volume.region(partition.start, partition.length);
    let Some(kind) = find_kind(&region) else { return };
    let mut file_system =
        FileSystem { partition: partition.number, kind, is_mounted: is_mounted(&region, kind), fault: None };
    // A panic of a parser is a fault of its file system alone.
    let files = catch_unwind(AssertUnwindSafe(|| survey_files(volume, &region, kind, loader)));
    match files.unwrap_or_else(|_| Err("its structure is invalid".to_owned())) {
        Ok((loaders, kernel)) => {
            contents.loaders.extend(loaders);
            contents.loaders.sort_by_key(|loader| !loader.is_default);
            contents.kernels.extend(kernel);
        }
        Err(fault) => file_system.fault = Some(fault),
    }
    contents.file_systems.push(file_system);
}

/// The boot loaders and the newest kernel of a file system.
fn survey_files(
    volume: &Volume,
    region: &Region,
    kind: FileSystemKind,
    loader: Option<&str>,
) -> Result<(Vec<LoaderFile>, Option<KernelFiles>), String> {
    let Some(tree) = open_tree(region, kind).transpose()? else { return Ok((Vec::new(), None)) };
    let loaders = if kind == FileSystemKind::Fat { find_loaders(&*tree, loader) } else { Vec::new() };
    Ok((loaders, find_kernel(&*tree, volume)))
}
