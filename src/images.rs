//! The iPXE binaries that firmware is given: found on the host at start, served from memory under fixed names.
//!
//! Two doors serve them, TFTP and (to UEFI HTTP boot) HTTP; neither ever opens a file. The binaries are the
//! distribution's own packages, so volboot ships none and their licence stays theirs.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// No iPXE binary comes near this; what does is something else under its name.
const LARGEST: u64 = 32 << 20;

/// A name under which a binary is served, and where distributions keep it.
struct Known {
    name: &'static str,
    /// What it is for.
    firmware: &'static str,
    /// Its file within one of the directories, the best first. Debian's and Ubuntu's names, then those of Fedora
    /// and its kin.
    files: &'static [&'static str],
    /// What to install if it is missing.
    packages: &'static str,
}

const X86_PACKAGES: &str = "ipxe (Debian, Ubuntu) or ipxe-bootimgs-x86 (Fedora, RHEL)";

const KNOWN: [Known; 5] = [
    Known { name: "undionly.kpxe", firmware: "BIOS", files: &["undionly.kpxe"], packages: X86_PACKAGES },
    Known {
        name: "ipxe.pxe",
        firmware: "BIOS, with drivers of its own",
        files: &["ipxe.pxe"],
        packages: X86_PACKAGES,
    },
    Known {
        name: "snponly.efi",
        firmware: "UEFI x86_64",
        files: &["snponly.efi", "ipxe-snponly-x86_64.efi"],
        packages: X86_PACKAGES,
    },
    Known {
        name: "ipxe.efi",
        firmware: "UEFI x86_64, with drivers of its own",
        files: &["ipxe.efi", "ipxe-amd64.efi", "ipxe-x86_64.efi"],
        packages: X86_PACKAGES,
    },
    Known {
        name: "ipxe-arm64.efi",
        firmware: "UEFI arm64",
        files: &["ipxe-arm64.efi", "arm64-efi/snponly.efi"],
        packages: "ipxe (Debian 13 and later) or ipxe-bootimgs-aarch64 (Fedora, RHEL)",
    },
];

/// One binary that was found.
#[derive(Debug, Clone)]
pub struct Image {
    /// The name it is served under.
    pub name: &'static str,
    /// The machines it is for.
    pub firmware: &'static str,
    /// The file it comes from.
    pub path: PathBuf,
    /// All of it; clones share it.
    pub content: Bytes,
}

impl Image {
    /// The version that iPXE shows when it starts. None in binaries for BIOS: they are compressed.
    pub fn version(&self) -> Option<String> {
        let texts = self.content.split(|byte| *byte == 0).filter_map(|text| str::from_utf8(text).ok());
        texts.into_iter().find(|text| is_version(text)).map(ToOwned::to_owned)
    }

    /// What tells one build from another, in hexadecimal.
    pub fn sha256(&self) -> String {
        Sha256::digest(&self.content).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }
}

/// `1.0.0+git-20190125.36a4c85-5.1` (Debian), `1.21.1+ (g4bd64)` (iPXE's own): three numbers, then where they
/// were built from.
fn is_version(text: &str) -> bool {
    let Some(at) = text.find(['+', ' ']) else { return false };
    let (release, source) = text.split_at(at);
    let number = |part: &str| (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    release.split('.').count() == 3
        && release.split('.').all(number)
        && (source.starts_with('+') || source.starts_with(" ("))
        && text.len() < 80
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// A binary that was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The name it would be served under.
    pub name: &'static str,
    /// The machines that need it.
    pub firmware: &'static str,
    /// The packages that bring it.
    pub packages: &'static str,
}

/// The binaries of this host.
#[derive(Debug, Clone, Default)]
pub struct Images {
    found: Vec<Image>,
    missing: Vec<Missing>,
}

impl Images {
    /// Looks through the directories, in their order. A file that cannot be read is passed over with a warning.
    pub fn find(directories: &[PathBuf]) -> Self {
        let mut images = Self::default();
        for known in &KNOWN {
            let candidates =
                directories.iter().flat_map(|dir| known.files.iter().map(move |file| dir.join(file)));
            match candidates.into_iter().find_map(|path| read(&path).map(|content| (path, content))) {
                Some((path, content)) => {
                    images.found.push(Image { name: known.name, firmware: known.firmware, path, content });
                }
                None => images.missing.push(Missing {
                    name: known.name,
                    firmware: known.firmware,
                    packages: known.packages,
                }),
            }
        }
        images
    }

    /// The content served under a name, whatever its case.
    pub fn get(&self, name: &str) -> Option<Bytes> {
        let image = self.found.iter().find(|image| image.name.eq_ignore_ascii_case(name))?;
        Some(image.content.clone())
    }

    /// What was found.
    pub fn found(&self) -> &[Image] {
        &self.found
    }

    /// What was not.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }
}

fn read(path: &Path) -> Option<Bytes> {
    match try_read(path) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %error, "an iPXE binary cannot be used");
            None
        }
    }
}

fn try_read(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut content = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut content)?;
    match content.len() as u64 {
        0 => Err(io::Error::other("it is empty")),
        size if size > LARGEST => Err(io::Error::other("it is too large to be one")),
        _ => Ok(content.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_directory_wins_and_the_best_file_in_it() {
        let (one, two) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let write = |dir: &tempfile::TempDir, name: &str, content: &str| {
            std::fs::write(dir.path().join(name), content).expect("is written");
        };
        write(&one, "ipxe-x86_64.efi", "fedora");
        write(&two, "ipxe.efi", "debian");
        write(&two, "undionly.kpxe", "bios");
        write(&two, "snponly.efi", "");
        std::fs::create_dir(one.path().join("ipxe.pxe")).expect("is made");
        let images = Images::find(&[one.path().into(), two.path().into(), "/nowhere".into()]);
        assert_eq!(images.get("ipxe.efi").as_deref(), Some(b"fedora".as_slice()));
        assert_eq!(images.get("UNDIONLY.KPXE").as_deref(), Some(b"bios".as_slice()));
        assert_eq!(images.get("snponly.efi"), None);
        assert_eq!(images.get("../ipxe.efi"), None);
        let missing: Vec<_> = images.missing().iter().map(|missing| missing.name).collect();
        assert_eq!(missing, ["ipxe.pxe", "snponly.efi", "ipxe-arm64.efi"]);
    }
    #[test]
    fn the_version_is_the_one_that_ipxe_shows() {
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
