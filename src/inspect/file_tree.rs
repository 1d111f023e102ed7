//! [`FileTree`]: the files of a file system, by path.

use std::error::Error;
use std::io::{self, Read};

use ext4_view::{Ext4, Ext4Read};
use fatfs::{FsOptions, ReadWriteSeek};

use super::contents::FileSystemKind;
use super::volume::Region;

/// The most entries of a directory that are looked at.
const MAX_ENTRIES: usize = 4096;

/// The files of a file system. Paths have `/` as separator, and begin with it.
pub(super) trait FileTree {
    /// The names in a directory; empty if there is none.
    fn list(&self, directory: &str) -> Vec<String>;

    /// Opens a file.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>>;
}

/// Opens the files of a file system that a crate can read. `None` for the others.
pub(super) fn open_tree(region: &Region, kind: FileSystemKind) -> Option<Result<Box<dyn FileTree>, String>> {
    match kind {
        FileSystemKind::Fat => Some(open_fat(region)),
        FileSystemKind::Ext => Some(open_ext(region)),
        _ => None,
    }
}

fn open_fat(region: &Region) -> Result<Box<dyn FileTree>, String> {
    // `fatfs` computes with these fields before it checks them.
    let mut sector = [0; 90];
    region.read_at(0, &mut sector).map_err(|error| error.to_string())?;
    let sectors_per_cluster = sector[13];
    let reserved = u16::from_le_bytes([sector[14], sector[15]]);
    if !sectors_per_cluster.is_power_of_two() || reserved == 0 || !matches!(sector[16], 1 | 2) {
        return Err("the boot sector of the FAT is invalid".to_owned());
    }
    let tree = fatfs::FileSystem::new(region.clone(), FsOptions::new().update_accessed_date(false));
    Ok(Box::new(FatTree(tree.map_err(|error| error.to_string())?)))
}

struct FatTree<T: ReadWriteSeek>(fatfs::FileSystem<T>);

impl<T: ReadWriteSeek> FileTree for FatTree<T> {
    fn list(&self, directory: &str) -> Vec<String> {
        let root = self.0.root_dir();
        let directory = match directory.trim_matches('/') {
            "" => Ok(root),
            path => root.open_dir(path),
        };
        let Ok(directory) = directory else { return Vec::new() };
        // An error repeats itself without end.
        directory.iter().take(MAX_ENTRIES).map_while(Result::ok).map(|entry| entry.file_name()).collect()
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.0.root_dir().open_file(path.trim_start_matches('/'))?))
    }
}

fn open_ext(region: &Region) -> Result<Box<dyn FileTree>, String> {
    let tree = Ext4::load(Box::new(ExtRegion(region.clone())));
    Ok(Box::new(ExtTree(tree.map_err(|error| error.to_string())?)))
}

struct ExtRegion(Region);

impl Ext4Read for ExtRegion {
    fn read(&mut self, start: u64, buffer: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.0.read_at(start, buffer)?)
    }
}

struct ExtTree(Ext4);

impl FileTree for ExtTree {
    fn list(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = self.0.read_dir(directory) else { return Vec::new() };
        let entries = entries.take(MAX_ENTRIES).map_while(Result::ok);
        entries.filter_map(|entry| entry.file_name().as_str().ok().map(str::to_owned)).collect()
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + '_>> {
        Ok(Box::new(ExtFile(self.0.open(path).map_err(io::Error::other)?)))
    }
}

struct ExtFile(ext4_view::File);

impl Read for ExtFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_bytes(buffer).map_err(io::Error::other)
    }
}
