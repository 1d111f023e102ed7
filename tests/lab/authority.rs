//! An authority of the site's own: certificates for volboot, and an iPXE that trusts it and nobody else; both made by the
//! commands that operators are given.
//!
//! Traps it copes with:
//! * iPXE has only the SHA-256 of the authority's certificate, so volboot has to show that certificate, too, behind its
//!   own.
//! * *ring*, which makes certificates elsewhere in the tests, makes no RSA keys, and iPXE of 2025 knows no others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Lab;

const TRUST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/images/trust");

/// Somebody who issues certificates.
pub(crate) struct Authority {
    directory: PathBuf,
}

/// What a server shows, and its key.
pub(crate) struct Certificate {
    /// The chain, down to the authority's own.
    pub(crate) chain: PathBuf,
    /// The key of its first.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// A new one.
    pub(crate) fn new(lab: &Lab) -> Result<Self> {
        let authority = Self { directory: lab.path().to_owned() };
        authority
            .openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -keyout ca.key -out ca.pem")?;
        Ok(authority)
    }

    /// A certificate for a server with these names, such as `DNS:volboot.lab,IP:10.99.0.1`.
    pub(crate) fn certify(&self, names: &str) -> Result<Certificate> {
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -subj /CN=volboot -addext subjectAltName={names} -keyout http.key -out http.csr"
        ))?;
        self.openssl(
            "x509 -req -in http.csr -CA ca.pem -CAkey ca.key -days 2 -copy_extensions copy -out http.crt",
        )?;
        let [certificate, authority, chain, key] =
            ["http.crt", "ca.pem", "http.pem", "http.key"].map(|file| self.directory.join(file));
        fs::write(&chain, fs::read_to_string(certificate)? + &fs::read_to_string(authority)?)?;
        Ok(Certificate { chain, key })
    }

    /// A folder with a copy of the binary at `path` that trusts this authority.
    pub(crate) fn trusted_by(&self, path: &Path) -> Result<PathBuf> {
        let folder = self.directory.join("ipxe");
        fs::create_dir(&folder)?;
        let name = path.file_name().context("a binary has a name")?;
        fs::copy(path, folder.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        run(Command::new(TRUST).arg(self.directory.join("ca.pem")).arg(&folder))?;
        Ok(folder)
    }

    fn openssl(&self, words: &str) -> Result<()> {
        run(Command::new("openssl").args(words.split(' ')).current_dir(&self.directory))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", said.trim());
    Ok(())
}
