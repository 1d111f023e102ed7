//! The newest Linux kernel of a file system, and its initramfs.

use std::cmp::Ordering;

use super::contents::KernelFiles;
use super::file_tree::FileTree;
use super::initramfs::find_iscsi;
use super::volume::Volume;

/// The folders with kernels: `/boot` of a root file system, or the root of a boot file system.
const FOLDERS: [&str; 2] = ["/boot", "/"];
/// The names of an initramfs around the kernel's version: Debian, Fedora, SUSE, Arch.
const INITRAMFS: [(&str, &str); 4] =
    [("initrd.img-", ""), ("initramfs-", ".img"), ("initrd-", ""), ("initramfs-", "")];

/// Finds the newest kernel.
pub(super) fn find_kernel(tree: &dyn FileTree, volume: &Volume) -> Option<KernelFiles> {
    FOLDERS.iter().find_map(|folder| {
        let names = tree.list(folder);
        let versions = names.iter().filter_map(|name| name.strip_prefix("vmlinuz-"));
        let newest =
            versions.filter(|version| !version.contains("rescue")).max_by(|a, b| compare_versions(a, b))?;
        let path = |name: &str| format!("{}/{name}", folder.trim_end_matches('/'));
        let initramfs = INITRAMFS.iter().map(|(start, end)| format!("{start}{newest}{end}"));
        let initramfs = initramfs.into_iter().find(|name| names.contains(name)).map(|name| path(&name));
        let has_iscsi = match &initramfs {
            None => Some(false),
            Some(path) => tree.open(path).ok().and_then(|file| find_iscsi(file, volume)),
        };
        Some(KernelFiles { kernel: path(&format!("vmlinuz-{newest}")), initramfs, has_iscsi })
    })
}

/// Compares versions: digits as numbers, the rest as text.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let mut parts = (split_version(a).into_iter(), split_version(b).into_iter());
    loop {
        match (parts.0.next(), parts.1.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) if a == b => {}
            (a, b) => return a.cmp(&b),
        }
    }
}

/// The numbers of a version, each behind the text before it. `6.1` is before `6.1.1`, and `6.1-rc1` before `6.1.1`.
fn split_version(version: &str) -> Vec<(String, u64)> {
    let mut parts = Vec::new();
    let mut rest = version;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        parts.push((text.to_owned(), tail[..end].parse().unwrap_or(u64::MAX)));
        rest = &tail[end..];
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found_by_its_numbers() {
        for (older, newer) in [
            ("6.1.0-9-amd64", "6.1.0-32-amd64"),
            ("6.1.0-32-amd64", "6.12.3-amd64"),
            ("5.14.0-70.el9", "5.14.0-427.el9"),
        ] {
            assert_eq!(compare_versions(older, newer), Ordering::Less, "{older} {newer}");
            assert_eq!(compare_versions(newer, older), Ordering::Greater);
        }
    }
}
