//! [`Volume`]: the bytes of a volume through a cache, within limits, and [`Region`], a part of it as a file.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::rc::Rc;

/// The unit of reads.
pub(super) const CHUNK: u64 = 64 * 1024;
/// The most bytes that are read from a volume.
const MAX_READ: u64 = 64 << 20;
/// The most bytes that the parsers get, cached ones included: ends loops in damaged file systems.
const MAX_PARSED: u64 = 1 << 30;

/// The origin of a volume's bytes. A request is within the volume, begins at a multiple of [`CHUNK`], and ends with the
/// chunk or with the volume.
pub(super) trait BlockSource {
    fn read(&mut self, offset: u64, length: usize) -> io::Result<Vec<u8>>;
}

struct Cache {
    source: Box<dyn BlockSource>,
    chunks: HashMap<u64, Vec<u8>>,
    read: u64,
    parsed: u64,
    max_read: u64,
    max_parsed: u64,
    exhausted: bool,
}

/// A volume; clones share the cache.
#[derive(Clone)]
pub(super) struct Volume {
    cache: Rc<RefCell<Cache>>,
    size: u64,
    block_size: u64,
}

impl Volume {
    pub(super) fn new(source: Box<dyn BlockSource>, size: u64, block_size: u32) -> Self {
        Self::with_limits(source, size, block_size, (MAX_READ, MAX_PARSED))
    }

    /// A volume with limits of its own for bytes read and bytes parsed.
    pub(super) fn with_limits(
        source: Box<dyn BlockSource>,
        size: u64,
        block_size: u32,
        limits: (u64, u64),
    ) -> Self {
        let (max_read, max_parsed) = limits;
        let cache = Cache {
            source,
            chunks: HashMap::new(),
            read: 0,
            parsed: 0,
            max_read,
            max_parsed,
            exhausted: false,
        };
        Self { cache: Rc::new(RefCell::new(cache)), size, block_size: block_size.max(1).into() }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Whether a limit was met.
    pub(super) fn is_exhausted(&self) -> bool {
        self.cache.borrow().exhausted
    }

    /// Counts bytes that a parser has made out of those of the volume.
    pub(super) fn count_parsed(&self, bytes: u64) -> io::Result<()> {
        let cache = &mut *self.cache.borrow_mut();
        cache.parsed += bytes;
        if cache.parsed > cache.max_parsed {
            cache.exhausted = true;
            return Err(io::Error::other("the limit of the inspection is met"));
        }
        Ok(())
    }

    /// Fills the buffer with the bytes from an offset on.
    pub(super) fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.size);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.count_parsed(buffer.len() as u64 + 64)?;
        let cache = &mut *self.cache.borrow_mut();
        while !buffer.is_empty() {
            let start = offset / CHUNK * CHUNK;
            if !cache.chunks.contains_key(&start) {
                let length = CHUNK.min(self.size - start);
                if cache.read + length > cache.max_read {
                    cache.exhausted = true;
                    return Err(io::Error::other("the limit of the inspection is met"));
                }
                cache.read += length;
                let bytes = cache.source.read(start, length as usize)?;
                cache.chunks.insert(start, bytes);
            }
            let bytes = cache.chunks.get(&start).and_then(|chunk| chunk.get((offset - start) as usize..));
            let bytes = bytes.filter(|bytes| !bytes.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
            let length = bytes.len().min(buffer.len());
            buffer[..length].copy_from_slice(&bytes[..length]);
            buffer = &mut buffer[length..];
            offset += length as u64;
        }
        Ok(())
    }

    /// The bytes from an offset on, as an array.
    pub(super) fn array_at<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// The part from an offset on. A part that reaches beyond the volume ends with it.
    pub(super) fn region(&self, start: u64, length: u64) -> Region {
        let start = start.min(self.size);
        Region { volume: self.clone(), start, length: length.min(self.size - start), position: 0 }
    }
}

/// A part of a volume, as a file that cannot be written.
#[derive(Clone)]
pub(super) struct Region {
    volume: Volume,
    start: u64,
    length: u64,
    position: u64,
}

impl Region {
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.length);
        end.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.volume.read_at(self.start + offset, buffer)
    }

    /// Whether these bytes stand at an offset.
    pub(super) fn has(&self, offset: u64, bytes: &[u8]) -> bool {
        let mut found = vec![0; bytes.len()];
        self.read_at(offset, &mut found).is_ok() && found == bytes
    }
}

impl Read for Region {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let length = left.min(buffer.len() as u64) as usize;
        self.read_at(self.position.min(self.length), &mut buffer[..length])?;
        self.position += length as u64;
        Ok(length)
    }
}

impl Seek for Region {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// `fatfs` demands a file that can be written.
impl Write for Region {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
