//! A file split into DATA packets, shared by all transfers of the same file and block size.
//!
//! In a boot storm, all machines of a kind request the same file with the same block size. The file is therefore
//! split into DATA packets once, headers included, and a transfer sends slices of that buffer without a copy. Large
//! files and uncommon block sizes are copied block by block instead: slower, but without memory.
//!
//! Invariant: the cache holds at most [`MAX_ENTRIES`] files of at most [`MAX_FILE_SIZE`] bytes, regardless of
//! requests. An entry lives only as long as a transfer uses it. A size probe builds no packets.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use super::packet::{DATA_HEADER, write_data_header};
use super::transmit::Transmit;

/// Largest cached file; boot programs have a tenth of this size.
const MAX_FILE_SIZE: usize = 4 << 20;
/// Most combinations of file and block size in the cache.
const MAX_ENTRIES: usize = 8;

/// A file split into blocks of one size.
#[derive(Debug)]
pub(super) struct Blocks {
    file: Bytes,
    block_size: usize,
    /// All packets end to end, built on first use; `None` if the file is copied block by block.
    packets: Option<OnceLock<Bytes>>,
}

impl Blocks {
    fn new(file: Bytes, block_size: u16, is_cached: bool) -> Self {
        Self { file, block_size: block_size.into(), packets: is_cached.then(OnceLock::new) }
    }

    /// Length of the file in bytes.
    pub(super) fn file_len(&self) -> usize {
        self.file.len()
    }

    /// Writes the blocks from `first` to `last`, counted from 1, to a [`Transmit`].
    pub(super) fn write_to(&self, first: u64, last: u64, transmit: &mut Transmit) {
        let segment_size = self.block_size + DATA_HEADER;
        if let Some(packets) = &self.packets {
            let packets = packets.get_or_init(|| {
                let blocks = self.file_len() / self.block_size + 1;
                let mut packets = Vec::with_capacity(self.file_len() + blocks * DATA_HEADER);
                self.append_packets(1, blocks as u64, &mut packets);
                packets.into()
            });
            let offset = |blocks: u64| packets.len().min(blocks as usize * segment_size);
            transmit.put_shared(packets.slice(offset(first - 1)..offset(last)), segment_size);
        } else {
            transmit.put_datagrams(segment_size, |out| self.append_packets(first, last, out));
        }
    }

    fn append_packets(&self, first: u64, last: u64, out: &mut Vec<u8>) {
        for block in first..=last {
            let start = (block - 1) as usize * self.block_size;
            let end = self.file_len().min(start + self.block_size);
            write_data_header(out, block as u16);
            out.extend_from_slice(self.file.get(start..end).unwrap_or_default());
        }
    }
}

/// Cache of split files. The entries are weak: the transfers own the blocks.
#[derive(Debug, Default)]
pub(super) struct BlockCache(Mutex<HashMap<CacheKey, Weak<Blocks>>>);

/// Address of the file in memory, its length, and the block size.
type CacheKey = (usize, usize, u16);

impl BlockCache {
    /// Returns the file in blocks of `block_size` bytes, from the cache if possible.
    pub(super) fn get(&self, file: Bytes, block_size: u16) -> Arc<Blocks> {
        if file.len() > MAX_FILE_SIZE {
            return Arc::new(Blocks::new(file, block_size, false));
        }
        let mut entries = self.0.lock();
        // The blocks own their file. While they live, its address cannot belong to another file.
        let key = (file.as_ptr().addr(), file.len(), block_size);
        if let Some(blocks) = entries.get(&key).and_then(Weak::upgrade) {
            return blocks;
        }
        entries.retain(|_, blocks| blocks.strong_count() > 0);
        if entries.len() >= MAX_ENTRIES {
            return Arc::new(Blocks::new(file, block_size, false));
        }
        let blocks = Arc::new(Blocks::new(file, block_size, true));
        entries.insert(key, Arc::downgrade(&blocks));
        blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(blocks: &Blocks, first: u64, last: u64) -> Vec<Vec<u8>> {
        let mut transmit = Transmit::new();
        blocks.write_to(first, last, &mut transmit);
        transmit.datagrams().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn cached_and_copied_blocks_give_the_same_packets() {
        let file: Bytes = (0..=255_u8).cycle().take(70_000 * 8).collect();
        for length in [0, 1, 7, 8, 9, 70_000 * 8 - 1, 70_000 * 8] {
            let (cached, copied) =
                (Blocks::new(file.slice(..length), 8, true), Blocks::new(file.slice(..length), 8, false));
            let last = length as u64 / 8 + 1;
            assert_eq!(packets(&cached, 1, last), packets(&copied, 1, last));
            assert_eq!(packets(&cached, last, last), packets(&copied, last, last));
            assert_eq!(packets(&cached, last, last)[0].len(), length % 8 + DATA_HEADER);
        }
    }

    #[test]
    fn transfers_of_the_same_file_and_size_share_blocks_that_are_freed_with_the_last_transfer() {
        let (cache, file) = (BlockCache::default(), Bytes::from(vec![1; 5000]));
        let first = cache.get(file.clone(), 1432);
        assert!(Arc::ptr_eq(&first, &cache.get(file.clone(), 1432)));
        assert!(!Arc::ptr_eq(&first, &cache.get(file.clone(), 512)));
        assert!(
            first.packets.as_ref().is_some_and(|packets| packets.get().is_none()),
            "no packets before the first use"
        );
        drop(first);
        cache.get(file, 1000);
        assert_eq!(cache.0.lock().len(), 1);
    }

    #[test]
    fn the_cache_is_bounded_in_entries_and_file_size() {
        let (cache, file) = (BlockCache::default(), Bytes::from(vec![1; 5000]));
        let all: Vec<_> = (100..200).map(|block_size| cache.get(file.clone(), block_size)).collect();
        assert_eq!(all.iter().filter(|blocks| blocks.packets.is_some()).count(), MAX_ENTRIES);
        assert!(cache.get(Bytes::from(vec![1; MAX_FILE_SIZE + 1]), 1432).packets.is_none());
    }
}
