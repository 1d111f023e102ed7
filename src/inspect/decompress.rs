//! Decompression of an initramfs: gzip, xz, zstd, and LZ4 in the kernel's form.

use std::io::{self, BufRead as _, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::StreamingDecoder;

/// The most memory of a decoder's window: `xz -9` needs 64 MiB, `zstd -19` 8 MiB.
const MAX_WINDOW: u32 = 128 << 20;
/// A block of the kernel's LZ4 format (`lz4 -l`), decompressed.
const LZ4_BLOCK: usize = 8 << 20;

const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const LZ4: &[u8] = b"\x02\x21\x4c\x18";

/// The stream in a compressed one; `None` for an unknown format.
pub(super) fn decompress<'a>(reader: Peeked<'a>) -> Option<io::Result<Box<dyn Read + 'a>>> {
    if reader.starts_with(GZIP) {
        Some(Ok(Box::new(MultiGzDecoder::new(BufReader::new(reader)))))
    } else if reader.starts_with(XZ) {
        Some(Ok(Box::new(XzReader::new_mem_limit(BufReader::new(reader), false, MAX_WINDOW / 1024))))
    } else if reader.starts_with(ZSTD) {
        let decoder = StreamingDecoder::new_with_max_window_size(BufReader::new(reader), MAX_WINDOW.into());
        Some(
            decoder
                .map(|decoder| Box::new(decoder) as Box<dyn Read>)
                .map_err(|error| io::Error::other(error.to_string())),
        )
    } else if reader.starts_with(LZ4) {
        Some(Ok(Box::new(Lz4Blocks::new(reader))))
    } else {
        None
    }
}

/// A reader whose next bytes can be looked at.
pub(super) struct Peeked<'a> {
    reader: BufReader<Box<dyn Read + 'a>>,
    head: Vec<u8>,
}

impl<'a> Peeked<'a> {
    /// The longest signature.
    const HEAD: usize = 6;

    pub(super) fn new(reader: Box<dyn Read + 'a>) -> Self {
        Self { reader: BufReader::with_capacity(64 * 1024, reader), head: Vec::new() }
    }

    /// Skips zero bytes, and looks at the next bytes. Returns whether there are any. The bytes that the last call looked at
    /// have been read by then.
    pub(super) fn skip_zeros(&mut self) -> io::Result<bool> {
        loop {
            let buffer = self.reader.fill_buf()?;
            let (length, zeros) = (buffer.len(), buffer.iter().take_while(|byte| **byte == 0).count());
            self.reader.consume(zeros);
            if length == 0 {
                return Ok(false);
            }
            if zeros < length {
                break;
            }
        }
        (&mut self.reader).take(Self::HEAD as u64).read_to_end(&mut self.head)?;
        Ok(true)
    }

    /// Whether the bytes that [`Peeked::skip_zeros`] looked at begin so.
    pub(super) fn starts_with(&self, signature: &[u8]) -> bool {
        self.head.starts_with(signature)
    }
}

impl Read for Peeked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.head.is_empty() {
            return self.reader.read(buffer);
        }
        let length = self.head.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.head[..length]);
        self.head.drain(..length);
        Ok(length)
    }
}

/// The kernel's LZ4 format: a signature, then blocks, each behind its length. The signature may stand between two.
struct Lz4Blocks<'a> {
    reader: Peeked<'a>,
    block: Vec<u8>,
    position: usize,
}

impl<'a> Lz4Blocks<'a> {
    fn new(reader: Peeked<'a>) -> Self {
        Self { reader, block: Vec::new(), position: 0 }
    }

    /// Decompresses the next block; false at the end.
    fn next_block(&mut self) -> io::Result<bool> {
        let mut length = [0; 4];
        loop {
            let mut read = 0;
            while read < 4 {
                match self.reader.read(&mut length[read..])? {
                    0 if read == 0 => return Ok(false),
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    more => read += more,
                }
            }
            if length != *LZ4 {
                break;
            }
        }
        let length = u32::from_le_bytes(length) as usize;
        // The size of the stream that the kernel's build appends, or padding.
        if length == 0 || length > LZ4_BLOCK + LZ4_BLOCK / 255 + 16 {
            return Ok(false);
        }
        let mut compressed = Vec::new();
        (&mut self.reader).take(length as u64).read_to_end(&mut compressed)?;
        self.block.resize(LZ4_BLOCK, 0);
        let length =
            lz4_flex::block::decompress_into(&compressed, &mut self.block).map_err(io::Error::other)?;
        self.block.truncate(length);
        self.position = 0;
        Ok(length > 0)
    }
}

impl Read for Lz4Blocks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position == self.block.len() && !self.next_block()? {
            return Ok(0);
        }
        let rest = &self.block[self.position..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.position += length;
        Ok(length)
    }
}
