//! [`check_input`]: the inspection of any bytes ends, within its limits.

use super::MemorySource;
use crate::inspect::survey::survey;
use crate::inspect::volume::Volume;

/// The first byte chooses the block size and the part to overwrite; the others are the volume, or its first bytes.
pub(crate) fn check_input(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    let block_size = [512, 4096][usize::from(choice & 1)];
    let mut volume = bytes.to_vec();
    volume.resize(volume.len().next_multiple_of(block_size as usize), 0);
    let size = volume.len() as u64;
    let contents =
        survey(&Volume::new(Box::new(MemorySource(volume)), size, block_size), Some(r"\EFI\own\loader.efi"));
    assert!(contents.loaders.len() <= 64 * 32 && contents.kernels.len() <= 64);
    let report = serde_json::to_vec(&contents).expect("JSON");
    assert_eq!(serde_json::from_slice::<crate::inspect::Contents>(&report).expect("the report"), contents);
}
