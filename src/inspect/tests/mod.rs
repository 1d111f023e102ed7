//! Tests of the inspection over volumes in memory. `tests/fuzz` compiles [`check`] as well.

pub(crate) mod check;
#[cfg(test)]
mod contents;
#[cfg(test)]
mod images;

use std::io;

use super::volume::BlockSource;

/// A volume in memory.
struct MemorySource(Vec<u8>);

impl BlockSource for MemorySource {
    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let bytes = self.0.get(offset as usize..).and_then(|bytes| bytes.get(..length));
        bytes.map(<[u8]>::to_vec).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
