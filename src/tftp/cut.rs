//! A file in blocks.
//!
//! In a boot storm all machines of a kind ask for the same file in blocks of the same size. So a file is cut into DATA
//! packets once, headers included, and what goes to a client is a piece of that, without a copy. Files too large for
//! that, and sizes nobody else uses at the time, are copied block by block: dearer, but it takes no memory.
//!
//! Invariant: at most [`MOST`] files of at most [`LARGEST`] bytes are cut at a time, whatever clients ask for, and none
//! longer than a transfer needs it. A size that is only probed for cuts nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;

use super::packet::{DATA_HEADER, write_data_header};
use super::parcel::Parcel;

/// Boot programs have a tenth of this.
const LARGEST: usize = 4 << 20;
const MOST: usize = 8;

/// One file in blocks of one size.
#[derive(Debug)]
pub(super) struct Cut {
    file: Bytes,
    block: usize,
    /// All packets end to end, made when the first is needed; `None` if this one is not to be cut.
    packets: Option<OnceLock<Bytes>>,
}

impl Cut {
    fn new(file: Bytes, block: u16, shared: bool) -> Self {
        Self { file, block: block.into(), packets: shared.then(OnceLock::new) }
    }

    /// Bytes of the file.
    pub(super) fn len(&self) -> usize {
        self.file.len()
    }

    /// Puts the blocks from `first` to `last`, counted from 1, into a parcel.
    pub(super) fn put(&self, first: u64, last: u64, parcel: &mut Parcel) {
        let stride = self.block + DATA_HEADER;
        if let Some(packets) = &self.packets {
            let packets = packets.get_or_init(|| {
                let blocks = self.len() / self.block + 1;
                let mut all = Vec::with_capacity(self.len() + blocks * DATA_HEADER);
                self.write(1, blocks as u64, &mut all);
                all.into()
            });
            let bound = |blocks: u64| packets.len().min(blocks as usize * stride);
            parcel.put_shared(packets.slice(bound(first - 1)..bound(last)), stride);
        } else {
            parcel.put(stride, |out| self.write(first, last, out));
        }
    }

    fn write(&self, first: u64, last: u64, out: &mut Vec<u8>) {
        for block in first..=last {
            let begin = (block - 1) as usize * self.block;
            let end = self.len().min(begin + self.block);
            write_data_header(out, block as u16);
            out.extend_from_slice(self.file.get(begin..end).unwrap_or_default());
        }
    }
}

/// What is cut at the moment.
#[derive(Debug, Default)]
pub(super) struct Cuts(Mutex<HashMap<Key, Weak<Cut>>>);

/// Where the file lies in memory, how long it is, and the size of a block.
type Key = (usize, usize, u16);

impl Cuts {
    /// `file` in blocks of `block` bytes.
    pub(super) fn of(&self, file: Bytes, block: u16) -> Arc<Cut> {
        if file.len() > LARGEST {
            return Arc::new(Cut::new(file, block, false));
        }
        let mut cuts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A cut holds its file, so as long as it lives no other can lie there.
        let key = (file.as_ptr().addr(), file.len(), block);
        if let Some(known) = cuts.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        cuts.retain(|_, cut| cut.strong_count() > 0);
        if cuts.len() >= MOST {
            return Arc::new(Cut::new(file, block, false));
        }
        let cut = Arc::new(Cut::new(file, block, true));
        cuts.insert(key, Arc::downgrade(&cut));
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packets(cut: &Cut, first: u64, last: u64) -> Vec<Vec<u8>> {
        let mut parcel = Parcel::new();
        cut.put(first, last, &mut parcel);
        parcel.datagrams().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_file_that_is_cut_and_one_that_is_copied_give_the_same_packets() {
        let file: Bytes = (0..=255_u8).cycle().take(70_000 * 8).collect();
        for length in [0, 1, 7, 8, 9, 70_000 * 8 - 1, 70_000 * 8] {
            let (cut, copied) =
                (Cut::new(file.slice(..length), 8, true), Cut::new(file.slice(..length), 8, false));
            let last = length as u64 / 8 + 1;
            assert_eq!(packets(&cut, 1, last), packets(&copied, 1, last));
            assert_eq!(packets(&cut, last, last), packets(&copied, last, last));
            assert_eq!(packets(&cut, last, last)[0].len(), length % 8 + DATA_HEADER);
        }
    }

    #[test]
    fn transfers_of_one_file_and_size_share_one_cut_and_leave_nothing() {
        let (cuts, file) = (Cuts::default(), Bytes::from(vec![1; 5000]));
        let first = cuts.of(file.clone(), 1432);
        assert!(Arc::ptr_eq(&first, &cuts.of(file.clone(), 1432)));
        assert!(!Arc::ptr_eq(&first, &cuts.of(file.clone(), 512)));
        assert!(
            first.packets.as_ref().is_some_and(|packets| packets.get().is_none()),
            "nobody needed it yet"
        );
        drop(first);
        cuts.of(file, 1000);
        assert_eq!(cuts.0.lock().expect("not poisoned").len(), 1);
    }

    #[test]
    fn whatever_sizes_clients_ask_for_only_a_few_are_cut_and_no_large_file() {
        let (cuts, file) = (Cuts::default(), Bytes::from(vec![1; 5000]));
        let held: Vec<_> = (100..200).map(|block| cuts.of(file.clone(), block)).collect();
        assert_eq!(held.iter().filter(|cut| cut.packets.is_some()).count(), MOST);
        assert!(cuts.of(Bytes::from(vec![1; LARGEST + 1]), 1432).packets.is_none());
    }
}
