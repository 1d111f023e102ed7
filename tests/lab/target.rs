//! The storage: a real iSCSI target (tgt) that lets in only who it was told about.
//!
//! Each volume is a target of its own, open to one initiator name (tgt answers others "target not found") and
//! one CHAP account.
//!
//! Traps it copes with:
//! * Without a socket and a control number of its own, `tgtadm` would talk to another tgtd of this host.
//! * tgtd answers `tgtadm` only some time after its start; it tells systemd's way when it does, so that is
//!   waited for.
//! * LUN 0 of a tgt target is a controller; the disk is LUN 1.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::network::{SECOND, SERVER};
use super::process::Process;
use super::volume::Volume;

/// The LUN of every volume.
pub(crate) const LUN: u32 = 1;

const PORT: u16 = 3260;
/// No target outlives its own end by more.
const END_LIMIT: Duration = Duration::from_secs(60);
const START_LIMIT: Duration = Duration::from_secs(60);

/// A name and a secret.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// The CHAP name.
    pub(crate) username: String,
    /// The CHAP secret.
    pub(crate) password: String,
}

/// How a volume is offered, whether or not the target is there yet.
pub(crate) struct Export {
    /// The target's name.
    pub(crate) iqn: String,
    /// The only initiator that is let in.
    pub(crate) initiator: String,
    /// What that initiator has to prove.
    pub(crate) account: Account,
    image: PathBuf,
}

impl Export {
    /// Offers `volume` to `initiator`, under a name and an account of its own.
    pub(crate) fn new(volume: &Volume, initiator: &str) -> Self {
        let name = volume.image().file_stem().unwrap_or_default().display();
        Self {
            iqn: format!("iqn.2026-01.lab.volboot:{name}"),
            initiator: initiator.to_owned(),
            account: Account { username: format!("user-{name}"), password: format!("secret of {name} #1") },
            image: volume.image().to_owned(),
        }
    }
}

/// Where initiators find the target.
pub(crate) fn portal() -> String {
    portal_at(SERVER)
}

/// The same, if the target is at another address.
pub(crate) fn portal_at(address: Ipv4Addr) -> String {
    format!("{address}:{PORT}")
}

/// Where orders are given to the target.
pub(crate) fn socket(lab: &Lab) -> PathBuf {
    lab.path().join("tgtd")
}

/// A running tgtd.
pub(crate) struct Target {
    process: Process,
    socket: PathBuf,
    control: String,
    count: usize,
}

impl Target {
    /// Starts the target and waits until it takes orders; it offers nothing yet.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        static STARTED: AtomicU16 = AtomicU16::new(1);
        Self::serve(lab, STARTED.fetch_add(1, Ordering::Relaxed), &[SERVER])
    }

    /// The same with both portals, for somebody who gives orders to tgt by its [`socket`] and knows of no number.
    pub(crate) fn start_for_others(lab: &Lab) -> Result<Self> {
        Self::serve(lab, 0, &[SERVER, SECOND])
    }

    fn serve(lab: &Lab, control: u16, portals: &[Ipv4Addr]) -> Result<Self> {
        let control = control.to_string();
        let socket = socket(lab);
        let ready_path = lab.path().join("tgtd-ready");
        if ready_path.exists() {
            fs::remove_file(&ready_path)?;
        }
        let ready = UnixDatagram::bind(&ready_path)?;
        ready.set_read_timeout(Some(START_LIMIT))?;

        let portals: Vec<_> = portals.iter().map(|address| format!("portal={address}:{PORT}")).collect();
        let mut tgtd = Command::new("tgtd");
        tgtd.args(["--foreground", "--control-port", &control, "--iscsi", &portals.join(",")]);
        tgtd.env("TGT_IPC_SOCKET", &socket).env("NOTIFY_SOCKET", &ready_path);
        let process = Process::start("tgtd", &mut tgtd, None)?;
        ready.recv(&mut [0; 256]).context("tgtd is not ready")?;
        Ok(Self { process, socket, control, count: 0 })
    }

    /// Ends it as a crash would: it forgets all that it has exported.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill(END_LIMIT)
    }

    /// Opens a volume to its one initiator.
    pub(crate) fn offer(&mut self, export: &Export) -> Result<()> {
        self.count += 1;
        let tid = self.count.to_string();
        let image = export.image.display().to_string();
        let Account { username, password } = &export.account;
        self.order("new", "target", &["--tid", &tid, "--targetname", &export.iqn])?;
        let lun = LUN.to_string();
        self.order("new", "logicalunit", &["--tid", &tid, "--lun", &lun, "--backing-store", &image])?;
        self.order("new", "account", &["--user", username, "--password", password])?;
        self.order("bind", "account", &["--tid", &tid, "--user", username])?;
        self.order("bind", "target", &["--tid", &tid, "--initiator-name", &export.initiator])
    }

    fn order(&self, operation: &str, mode: &str, rest: &[&str]) -> Result<()> {
        let mut command = Command::new("tgtadm");
        command.env("TGT_IPC_SOCKET", &self.socket);
        command.args(["--control-port", &self.control, "--lld", "iscsi", "--op", operation, "--mode", mode]);
        let output = command.args(rest).output().context("cannot run tgtadm (package tgt)")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tgtadm cannot {operation} {mode}: {}", said.trim());
        Ok(())
    }
}
