//! The iPXE binaries for firmware: read from the host at start, and served from memory under fixed names.
//!
//! The TFTP server and, for UEFI HTTP boot, the boot listener serve them; neither opens a file. The binaries come
//! from packages of the distribution. volboot ships no iPXE, and iPXE's licence does not apply to volboot.

mod dhcp;
mod name;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

pub use dhcp::{ARCHITECTURES, Architecture, BootClient, DhcpBootFile, Transport, choose_boot_file};
pub use name::BootFile;

/// The largest file that is accepted, in bytes. iPXE binaries are far smaller; a larger file is another program.
const MAX_BYTES: u64 = 32 << 20;

/// The name of a binary, and its files in the distributions.
struct ImageSpec {
    name: &'static str,
    /// The firmware it is for.
    firmware: &'static str,
    /// Its file names within a directory, in order of preference: those of Debian and Ubuntu, then those of Fedora
    /// and RHEL.
    files: &'static [&'static str],
    /// The packages that contain it.
    packages: &'static str,
}

const X86_PACKAGES: &str = "ipxe (Debian, Ubuntu) or ipxe-bootimgs-x86 (Fedora, RHEL)";

const SPECS: [ImageSpec; 5] = [
    ImageSpec { name: "undionly.kpxe", firmware: "BIOS", files: &["undionly.kpxe"], packages: X86_PACKAGES },
    ImageSpec {
        name: "ipxe.pxe",
        firmware: "BIOS, with drivers of its own",
        files: &["ipxe.pxe"],
        packages: X86_PACKAGES,
    },
    ImageSpec {
        name: "snponly.efi",
        firmware: "UEFI x86_64",
        files: &["snponly.efi", "ipxe-snponly-x86_64.efi"],
        packages: X86_PACKAGES,
    },
    ImageSpec {
        name: "ipxe.efi",
        firmware: "UEFI x86_64, with drivers of its own",
        files: &["ipxe.efi", "ipxe-amd64.efi", "ipxe-x86_64.efi"],
        packages: X86_PACKAGES,
    },
    ImageSpec {
        name: "ipxe-arm64.efi",
        firmware: "UEFI arm64",
        files: &["ipxe-arm64.efi", "arm64-efi/snponly.efi"],
        packages: "ipxe (Debian 13 and later) or ipxe-bootimgs-aarch64 (Fedora, RHEL)",
    },
];

/// One iPXE binary of this host.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it is served under.
    pub name: &'static str,
    /// The firmware it is for.
    pub firmware: &'static str,
    /// Its file.
    pub path: PathBuf,
    /// The content; clones share it.
    pub content: Bytes,
}

impl Image {
    /// The codes in DHCP option 93 of the firmware that loads it.
    pub fn architectures(&self) -> Vec<u16> {
        let rows = ARCHITECTURES.iter().filter(|row| row.image == self.name);
        rows.map(|row| row.code).collect()
    }

    /// The version that iPXE prints when it starts. `None` for BIOS binaries, which are compressed.
    pub fn version(&self) -> Option<String> {
        let texts = self.content.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok());
        texts.into_iter().find(|text| is_version(text)).map(ToOwned::to_owned)
    }

    /// The SHA-256 of the content, in hexadecimal.
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.content).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

/// Whether the text is a version: three numbers, then the source revision. Examples: `1.0.0+git-20190125.36a4c85-5.1`
/// (Debian), `1.21.1+ (g4bd64)` (iPXE's own).
fn is_version(text: &str) -> bool {
    let Some(at) = text.find(['+', ' ']) else { return false };
    let (release, source) = text.split_at(at);
    let is_number = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    release.split('.').count() == 3
        && release.split('.').all(is_number)
        && (source.starts_with('+') || source.starts_with(" ("))
        && text.len() < 80
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// An iPXE binary that this host lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingImage {
    /// The name to serve it under.
    pub name: &'static str,
    /// The firmware that needs it.
    pub firmware: &'static str,
    /// The packages that contain it.
    pub packages: &'static str,
}

/// The iPXE binaries of this host.
#[derive(Debug, Clone, Default)]
pub struct Images {
    available: Vec<Image>,
    missing: Vec<MissingImage>,
}

impl Images {
    /// Searches the directories in order. A file that cannot be used is skipped with a warning.
    pub fn find_blocking(directories: &[PathBuf]) -> Self {
        let mut images = Self::default();
        for spec in &SPECS {
            let candidates =
                directories.iter().flat_map(|dir| spec.files.iter().map(move |file| dir.join(file)));
            match candidates.into_iter().find_map(|path| read(&path).map(|content| (path, content))) {
                Some((path, content)) => {
                    images.available.push(Image { name: spec.name, firmware: spec.firmware, path, content });
                }
                None => images.missing.push(MissingImage {
                    name: spec.name,
                    firmware: spec.firmware,
                    packages: spec.packages,
                }),
            }
        }
        images
    }

    /// The content of a binary, by its case-insensitive name.
    pub fn get(&self, name: &str) -> Option<Bytes> {
        let image = self.available.iter().find(|image| image.name.eq_ignore_ascii_case(name))?;
        Some(image.content.clone())
    }

    /// The binaries of this host.
    pub fn available(&self) -> &[Image] {
        &self.available
    }

    /// The binaries that this host lacks.
    pub fn missing(&self) -> &[MissingImage] {
        &self.missing
    }
}

/// Reads a binary; logs a file that exists but cannot be used.
fn read(path: &Path) -> Option<Bytes> {
    match try_read(path) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %error, "cannot use iPXE binary");
            None
        }
    }
}

fn try_read(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    match content.len() as u64 {
        0 => Err(io::Error::other("the file is empty")),
        size if size > MAX_BYTES => Err(io::Error::other("the file is too large for an iPXE binary")),
        _ => Ok(content.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_directory_and_preferred_file_name_win() {
        let (first, second) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let write = |dir: &tempfile::TempDir, name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).expect("writes");
        };
        write(&first, "ipxe-x86_64.efi", "fedora");
        write(&second, "ipxe.efi", "debian");
        write(&second, "undionly.kpxe", "bios");
        write(&second, "snponly.efi", "");
        std::fs::create_dir(first.path().join("ipxe.pxe")).expect("creates");
        let images = Images::find_blocking(&[first.path().into(), second.path().into(), "/nowhere".into()]);
        assert_eq!(images.get("ipxe.efi").as_deref(), Some(b"fedora".as_slice()));
        assert_eq!(images.get("UNDIONLY.KPXE").as_deref(), Some(b"bios".as_slice()));
        assert_eq!(images.get("snponly.efi"), None);
        assert_eq!(images.get("../ipxe.efi"), None);
        let missing: Vec<_> = images.missing().iter().map(|missing| missing.name).collect();
        assert_eq!(missing, ["ipxe.pxe", "snponly.efi", "ipxe-arm64.efi"]);
    }

    #[test]
    fn version_is_read_from_the_binary() {
        let image = |content: &'static [u8]| Image {
            name: "ipxe.efi",
            firmware: "UEFI",
            path: PathBuf::new(),
            content: Bytes::from_static(content),
        };
        let debian = image(b"MZ\xff\x001.2.3\0iPXE/%s\x001.0.0+git-20190125.36a4c85-5.1\x002.0.0+x\0");
        assert_eq!(debian.version().as_deref(), Some("1.0.0+git-20190125.36a4c85-5.1"));
        assert_eq!(image(b"\x001.21.1+ (g4bd64)\0").version().as_deref(), Some("1.21.1+ (g4bd64)"));
        assert_eq!(image(b"a\x0012.34\x001.2.3 of 4\x001.2.+\0").version(), None);
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(image(b"abc").sha256(), expected);
    }
}
