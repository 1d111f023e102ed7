//! volboot itself: the real binary with a configuration of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nix::unistd::Pid;

use super::Lab;
use super::authority::Certificate;
use super::network::SERVER;
use super::process::{Listener, Process};

/// Where its API is; inside the lab only.
pub(crate) const API: &str = "127.0.0.1:6385";

const START_LIMIT: Duration = Duration::from_secs(60);
/// What ends it may be slow to come.
const END_LIMIT: Duration = Duration::from_secs(60);
/// The doors may take 10 s, what Cinder is doing as long, the history 5.
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// A running `volboot serve`.
pub(crate) struct Daemon {
    process: Process,
}

/// Where its records are; they stay when it ends.
pub(crate) fn store(lab: &Lab) -> PathBuf {
    lab.path().join("volboot.redb")
}

fn images_key(images: &Path) -> String {
    format!("images = [\"{}\"]", images.display())
}

impl Daemon {
    /// Starts the binary with further `sections` in its configuration and waits until it says that it serves.
    pub(crate) fn start(
        lab: &Lab,
        binary: &Path,
        sections: &str,
        listener: Option<Listener>,
    ) -> Result<Self> {
        Self::start_with(lab, binary, sections, ["", ""], listener)
    }

    /// Starts the binary with the iPXE in `images` instead of the distribution's.
    pub(crate) fn start_with_images(lab: &Lab, binary: &Path, images: &Path) -> Result<Self> {
        Self::start_with(lab, binary, "", [&images_key(images), ""], None)
    }

    /// The same, with TLS for machines, which are told to come to `url`.
    pub(crate) fn start_with_tls(
        lab: &Lab,
        binary: &Path,
        images: &Path,
        url: &str,
        Certificate { chain, key }: &Certificate,
    ) -> Result<Self> {
        let (chain, key) = (chain.display(), key.display());
        let http = format!("url = \"{url}\"\ncertificate = \"{chain}\"\nkey = \"{key}\"");
        Self::start_with(lab, binary, "", [&images_key(images), &http], None)
    }

    fn start_with(
        lab: &Lab,
        binary: &Path,
        sections: &str,
        [tftp, http]: [&str; 2],
        listener: Option<Listener>,
    ) -> Result<Self> {
        let config = lab.path().join("volboot.toml");
        let store = store(lab);
        let text = format!(
            "[store]\npath = \"{}\"\n\
             [tftp]\nlisten = \"{SERVER}:69\"\n{tftp}\n\
             [http]\nlisten = \"{SERVER}:8080\"\n{http}\n\
             [api]\nlisten = \"{API}\"\n\
             {sections}\n",
            store.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&config).env("RUST_BACKTRACE", "1");
        let mut process = Process::start("volboot", &mut command, listener)?;
        process.wait_for(&[r#""message":"ready""#], START_LIMIT)?;
        Ok(Self { process })
    }

    /// Waits until its log has `pattern` after what was waited for before.
    pub(crate) fn logs(&mut self, pattern: &str, within: Duration) -> Result<Instant> {
        Ok(self.process.wait_for(&[pattern], within)?.at)
    }

    /// When its log first had `pattern`, if it had.
    pub(crate) fn when(&self, pattern: &str) -> Option<Instant> {
        self.process.when(pattern)
    }

    /// Its process, for who ends it from outside.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Waits until it has ended, whoever ended it.
    pub(crate) fn ended(&mut self) -> Result<()> {
        self.process.ended(END_LIMIT)
    }

    /// What it has logged last.
    pub(crate) fn tail(&self) -> String {
        self.process.tail()
    }

    /// Ends it as an operator would and sees that it ended well.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let status = self.process.stop(STOP_LIMIT)?;
        ensure!(status.success(), "volboot ended with {status} after SIGTERM");
        Ok(())
    }
}
