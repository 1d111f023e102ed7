//! [`survey`]: the inspection of a volume, from its first sector to the initramfs.

use super::boot_sector::find_boot_code;
use super::contents::{Contents, FileSystem, FileSystemKind, PartitionTable};
use super::file_system::{find_kind, is_mounted};
use super::file_tree::open_tree;
use super::kernel::find_kernel;
use super::loaders::find_loaders;
use super::table::{Partition, read_table};
use super::volume::Volume;

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
    match open_tree(&region, kind) {
        None => {}
        Some(Err(fault)) => file_system.fault = Some(fault),
        Some(Ok(tree)) => {
            if kind == FileSystemKind::Fat {
                contents.loaders.extend(find_loaders(&*tree, loader));
                contents.loaders.sort_by_key(|loader| !loader.is_default);
            }
            contents.kernels.extend(find_kernel(&*tree, volume));
        }
    }
    contents.file_systems.push(file_system);
}
