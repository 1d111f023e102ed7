//! An authority of the site's own: certificates for volboot, and an iPXE that trusts it and nobody else; both made by what
//! README has operators type, but for the names.
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
use super::readme::command;

const TRUST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/images/trust");
/// volboot's names in README.
const NAMES: &str = "DNS:boot.example.org,IP:10.0.0.1";

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
        authority.types(&command("openssl req -x509"))?;
        Ok(authority)
    }

    /// A certificate for a server with these names, such as `DNS:volboot.lab,IP:10.99.0.1`.
    pub(crate) fn certify(&self, names: &str) -> Result<Certificate> {
        let request = command(NAMES).replace(NAMES, names);
        for command in [request, command("openssl x509 -req"), command("cat http.crt")] {
            self.types(&command)?;
        }
        let [chain, key] = ["http.pem", "http.key"].map(|file| self.directory.join(file));
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

    fn types(&self, command: &str) -> Result<()> {
        run(Command::new("bash").args(["-euc", command]).current_dir(&self.directory))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", said.trim());
    Ok(())
}
