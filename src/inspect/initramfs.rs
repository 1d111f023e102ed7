//! iSCSI in an initramfs: a sequence of cpio archives, of which the last may be compressed (Linux, `buffer-format.rst`).

use std::io::{self, Read};

use super::decompress::{Peeked, decompress};
use super::volume::Volume;

/// The header of an archive member (`newc`), its magic, and the last member's name.
const HEADER: usize = 110;
const MAGIC: [&[u8; 6]; 2] = [b"070701", b"070702"];
const TRAILER: &[u8] = b"TRAILER!!!";
/// The longest path (`PATH_MAX` of Linux), and the most members.
const MAX_NAME: u64 = 4096;
const MAX_MEMBERS: usize = 200_000;
/// Programs and scripts that log in to a target, by the beginnings of their names: open-iscsi in initramfs-tools and
/// mkinitcpio (`iscsistart`), dracut (`iscsiroot`), and both with the daemon. Kernel modules alone log in to nothing.
const PROGRAMS: [&[u8]; 3] = [b"iscsistart", b"iscsiroot", b"iscsid"];

/// Whether an initramfs can log in to iSCSI targets. `None` if it cannot be read to its end.
pub(super) fn find_iscsi(file: Box<dyn Read + '_>, volume: &Volume) -> Option<bool> {
    let mut reader = Peeked::new(Box::new(Counted { file, volume: volume.clone() }));
    match search(&mut reader) {
        Ok(Some(found)) => Some(found),
        // Compressed: the rest of the file is one stream.
        Ok(None) => {
            let stream = decompress(reader)?.ok()?;
            search(&mut Peeked::new(Box::new(Counted { file: stream, volume: volume.clone() })))
                .ok()
                .flatten()
        }
        Err(_) => None,
    }
}

/// Searches archive after archive. `None`: the next bytes are no archive.
fn search(reader: &mut Peeked<'_>) -> io::Result<Option<bool>> {
    let mut members = 0;
    loop {
        if !reader.skip_zeros()? {
            // An empty file is no initramfs.
            return Ok((members > 0).then_some(false));
        }
        if !MAGIC.iter().any(|magic| reader.starts_with(*magic)) {
            return Ok(None);
        }
        while let Some(name) = next_member(reader)? {
            let base = name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            if PROGRAMS.iter().any(|program| base.starts_with(program)) {
                return Ok(Some(true));
            }
            members += 1;
            if members > MAX_MEMBERS {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        members += 1;
    }
}

/// The next member's name; its data is skipped. `None` behind the last.
fn next_member(reader: &mut Peeked<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut header = [0; HEADER];
    reader.read_exact(&mut header)?;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    if !MAGIC.iter().any(|magic| header.starts_with(*magic)) {
        return Err(invalid());
    }
    let number = |field: usize| {
        let digits = std::str::from_utf8(&header[6 + field * 8..14 + field * 8]).ok()?;
        u64::from_str_radix(digits, 16).ok()
    };
    let size = number(6).ok_or_else(invalid)?;
    let name_size = number(11).filter(|size| (1..=MAX_NAME).contains(size)).ok_or_else(invalid)?;
    let mut name = vec![0; name_size as usize];
    reader.read_exact(&mut name)?;
    name.pop();
    // Header with name, and data, each end at a multiple of four.
    let padding = |length: u64| length.next_multiple_of(4) - length;
    let skip = padding(HEADER as u64 + name_size) + size + padding(size);
    let skipped = io::copy(&mut reader.by_ref().take(skip), &mut io::sink())?;
    if name == TRAILER {
        return Ok(None);
    }
    if skipped < skip { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Some(name)) }
}

/// Counts the bytes of a file or a decompressed stream towards the limit.
struct Counted<'a> {
    file: Box<dyn Read + 'a>,
    volume: Volume,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.volume.count_parsed(length as u64)?;
        Ok(length)
    }
}
