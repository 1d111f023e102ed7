//! Boot loaders for UEFI on a FAT file system: at the default paths, and in the folders of distributions.

use std::io::{self, Read};

use super::contents::{LoaderArchitecture, LoaderFile};
use super::file_tree::FileTree;

/// The folder of the default paths (UEFI 2.10, §3.5.1.1).
const DEFAULT_FOLDER: &str = "BOOT";
const DEFAULT_NAMES: [(&str, LoaderArchitecture); 2] =
    [("BOOTX64.EFI", LoaderArchitecture::X86_64), ("BOOTAA64.EFI", LoaderArchitecture::Arm64)];
/// The folders in `\EFI\<vendor>` with loaders, beside the vendor's own.
const SUBFOLDERS: [&str; 2] = ["", "/Boot"];
/// Loaders by the beginnings of their names, the preferred ones first. A shim starts the loader beside it.
const NAMES: [&str; 6] = ["shim", "grub", "systemd-boot", "bootmgfw", "refind", "boot"];
/// The most folders and loaders.
const MAX_FOLDERS: usize = 32;
const MAX_LOADERS: usize = 32;
/// The bytes of a file that hold its PE header.
const PE_LIMIT: usize = 4096;

/// Finds the loaders, the preferred ones first, and the one at the path `other`.
pub(super) fn find_loaders(tree: &dyn FileTree, other: Option<&str>) -> Vec<LoaderFile> {
    let mut found = Vec::new();
    if let Some(path) = other
        && let Ok(Some(architecture)) = tree.open(&path.replace('\\', "/")).and_then(read_architecture)
    {
        found.push((
            true,
            NAMES.len(),
            LoaderFile { path: path.to_owned(), architecture, is_default: false },
        ));
    }
    let Some(efi) = tree.list("/").into_iter().find(|name| name.eq_ignore_ascii_case("EFI")) else {
        return found.into_iter().map(|(_, _, loader)| loader).collect();
    };
    let folders = tree.list(&format!("/{efi}")).into_iter().filter(|name| !name.starts_with('.'));
    for folder in folders.take(MAX_FOLDERS) {
        let is_default = folder.eq_ignore_ascii_case(DEFAULT_FOLDER);
        for subfolder in SUBFOLDERS {
            let path = format!("/{efi}/{folder}{subfolder}");
            for name in tree.list(&path) {
                let lower = name.to_ascii_lowercase();
                let rank = NAMES.iter().position(|start| lower.starts_with(start));
                let (Some(rank), true) = (rank, lower.strip_suffix(".efi").is_some()) else { continue };
                let file = format!("{path}/{name}");
                let Ok(Some(architecture)) = tree.open(&file).and_then(read_architecture) else { continue };
                let default = |(default, of): &(&str, LoaderArchitecture)| {
                    default.eq_ignore_ascii_case(&name) && *of == architecture
                };
                let is_default = is_default && subfolder.is_empty() && DEFAULT_NAMES.iter().any(default);
                let loader = LoaderFile { path: file.replace('/', "\\"), architecture, is_default };
                found.retain(|(_, _, other): &(bool, usize, LoaderFile)| {
                    !other.path.eq_ignore_ascii_case(&loader.path)
                });
                if found.len() < MAX_LOADERS {
                    found.push((!is_default, rank, loader));
                }
            }
        }
    }
    found.sort_by_key(|(is_other, rank, _)| (*is_other, *rank));
    found.into_iter().map(|(_, _, loader)| loader).collect()
}

/// The architecture of a PE file, by the field `Machine`. `None` for another kind of file, or another architecture.
fn read_architecture(file: Box<dyn Read + '_>) -> io::Result<Option<LoaderArchitecture>> {
    let mut head = Vec::new();
    file.take(PE_LIMIT as u64).read_to_end(&mut head)?;
    let number = |at: usize, length: usize| {
        let bytes = head.get(at..at.checked_add(length)?)?;
        Some(bytes.iter().rev().fold(0_usize, |value, byte| value << 8 | usize::from(*byte)))
    };
    let Some(pe) = number(0x3c, 4).filter(|_| head.starts_with(b"MZ")) else { return Ok(None) };
    let is_pe = head.get(pe..).is_some_and(|rest| rest.starts_with(b"PE\0\0"));
    Ok(match number(pe + 4, 2) {
        Some(0x8664) if is_pe => Some(LoaderArchitecture::X86_64),
        Some(0xaa64) if is_pe => Some(LoaderArchitecture::Arm64),
        _ => None,
    })
}
