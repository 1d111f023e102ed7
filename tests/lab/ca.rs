//! The site's certificate authority: certificates for volboot, and an iPXE that trusts only this CA. Both are created
//! by the commands of `packaging/doc/tls.md`, with other names.
//!
//! Traps:
//! * iPXE holds only the SHA-256 of the CA certificate, so volboot must send the CA certificate after its own.
//! * *ring*, which creates certificates elsewhere in the tests, cannot create RSA keys. iPXE of 2025 supports no
//!   others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::documents::command;

const TRUST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/images/trust");
/// volboot's names in the guide.
const NAMES: &str = "DNS:boot.example.org,IP:10.0.0.1";

/// A certificate authority.
pub(crate) struct CertificateAuthority {
    directory: PathBuf,
}

/// A server's certificate chain and its key.
pub(crate) struct Certificate {
    /// The chain, up to the CA certificate.
    pub(crate) chain: PathBuf,
    /// The key of the first certificate.
    pub(crate) key: PathBuf,
}

impl CertificateAuthority {
    /// Creates a CA.
    pub(crate) fn new(lab: &Lab) -> Result<Self> {
        let ca = Self { directory: lab.path().to_owned() };
        ca.run_command(&command("/CN=boot authority"))?;
        Ok(ca)
    }

    /// Issues a certificate for these names, such as `DNS:volboot.lab,IP:10.99.0.1`.
    pub(crate) fn issue(&self, names: &str) -> Result<Certificate> {
        let request = command(NAMES).replace(NAMES, names);
        for command in [request, command("x509 -req -in http.csr"), command("cat http.crt")] {
            self.run_command(&command)?;
        }
        let [chain, key] = ["http.pem", "http.key"].map(|file| self.directory.join(file));
        Ok(Certificate { chain, key })
    }

    /// Creates a folder with a copy of the iPXE binary at `path` that trusts this CA.
    pub(crate) fn embed_ca(&self, path: &Path) -> Result<PathBuf> {
        let folder = self.directory.join("ipxe");
        fs::create_dir(&folder)?;
        let name = path.file_name().context("the path has no file name")?;
        fs::copy(path, folder.join(name)).with_context(|| format!("cannot copy {}", path.display()))?;
        run(Command::new(TRUST).arg(self.directory.join("ca.pem")).arg(&folder))?;
        Ok(folder)
    }

    fn run_command(&self, command: &str) -> Result<()> {
        run(Command::new("bash").args(["-euc", command]).current_dir(&self.directory))
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", command.get_program().display()))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", stderr.trim());
    Ok(())
}
