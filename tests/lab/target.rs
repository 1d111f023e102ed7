//! The storage: a real iSCSI target (tgt) with access control.
//!
//! Each volume has a target of its own, for one initiator name and one CHAP account. tgt rejects other initiators with
//! "target not found".
//!
//! Traps:
//! * Without a socket and a control port of its own, `tgtadm` would talk to another tgtd of this host.
//! * tgtd accepts `tgtadm` only some time after its start. It then notifies systemd, and the lab waits for this
//!   notification.
//! * LUN 0 of a tgt target is a controller; the disk is LUN 1.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Lab;
use super::network::{SECOND_ADDRESS, SERVER, SITE_V6};
use super::process::Process;
use super::volume::Volume;

/// The LUN of a volume, if a test needs no other.
pub(crate) const LUN: u32 = 1;

const PORT: u16 = 3260;
/// The time-out for tgtd's exit.
const END_LIMIT: Duration = Duration::from_secs(60);
const START_LIMIT: Duration = Duration::from_secs(60);

/// A CHAP account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// The user name.
    pub(crate) username: String,
    /// The secret.
    pub(crate) password: String,
}

/// The export of a volume, whether or not tgtd runs yet.
pub(crate) struct Export {
    /// The target's name.
    pub(crate) iqn: String,
    /// The volume's LUN.
    pub(crate) lun: u32,
    /// The only initiator with access.
    pub(crate) initiator: String,
    /// The initiator's account.
    pub(crate) account: Account,
    /// The portal in the volume target.
    pub(crate) portal: String,
    /// The size of a block.
    pub(crate) block_size: u32,
    image: PathBuf,
}

impl Export {
    /// Describes the export of `volume` to `initiator`, with a target and an account of its own.
    pub(crate) fn new(volume: &Volume, initiator: &str) -> Self {
        Self::of_image(volume.image(), initiator)
    }

    /// Describes the export of a disk image.
    pub(crate) fn of_image(image: &Path, initiator: &str) -> Self {
        let name = image.file_stem().unwrap_or_default().display();
        Self {
            iqn: format!("iqn.2026-01.lab.volboot:{name}"),
            lun: LUN,
            initiator: initiator.to_owned(),
            account: Account { username: format!("user-{name}"), password: format!("secret of {name} #1") },
            portal: portal(),
            block_size: 512,
            image: image.to_owned(),
        }
    }
}

/// The portal of a target.
pub(crate) fn portal() -> String {
    portal_at(SERVER)
}

/// The portal at another address.
pub(crate) fn portal_at(address: Ipv4Addr) -> String {
    format!("{address}:{PORT}")
}

/// The portal at the server's IPv6 address.
pub(crate) fn portal_v6() -> String {
    format!("[{SITE_V6}1]:{PORT}")
}

/// The path of tgtd's control socket.
pub(crate) fn socket(lab: &Lab) -> PathBuf {
    lab.path().join("tgtd")
}

/// A control port that no other target of this process has.
fn next_port() -> u16 {
    static NEXT_PORT: AtomicU16 = AtomicU16::new(1);
    NEXT_PORT.fetch_add(1, Ordering::Relaxed)
}

/// A running tgtd.
pub(crate) struct Target {
    process: Process,
    socket: PathBuf,
    control: String,
    count: usize,
}

impl Target {
    /// Starts tgtd without exports, and waits until it accepts commands.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        Self::spawn(lab, next_port(), &[portal()])
    }

    /// Starts tgtd with the IPv6 portal only.
    pub(crate) fn start_on_ipv6(lab: &Lab) -> Result<Self> {
        Self::spawn(lab, next_port(), &[portal_v6()])
    }

    /// Starts tgtd with a portal at each address.
    pub(crate) fn start_at(lab: &Lab, addresses: &[Ipv4Addr]) -> Result<Self> {
        let portals: Vec<_> = addresses.iter().map(|address| portal_at(*address)).collect();
        Self::spawn(lab, next_port(), &portals)
    }

    /// Starts tgtd with both portals, for a client that controls tgt by its [`socket`] and the default control port.
    pub(crate) fn start_unmanaged(lab: &Lab) -> Result<Self> {
        Self::spawn(lab, 0, &[portal_at(SERVER), portal_at(SECOND_ADDRESS)])
    }

    fn spawn(lab: &Lab, control: u16, portals: &[String]) -> Result<Self> {
        let control = control.to_string();
        let socket = socket(lab);
        let ready_path = lab.path().join("tgtd-ready");
        if ready_path.exists() {
            fs::remove_file(&ready_path)?;
        }
        let ready = UnixDatagram::bind(&ready_path)?;
        ready.set_read_timeout(Some(START_LIMIT))?;

        let portals: Vec<_> = portals.iter().map(|portal| format!("portal={portal}")).collect();
        let mut tgtd = Command::new("tgtd");
        tgtd.args(["--foreground", "--control-port", &control, "--iscsi", &portals.join(",")]);
        tgtd.env("TGT_IPC_SOCKET", &socket).env("NOTIFY_SOCKET", &ready_path);
        let process = Process::start("tgtd", &mut tgtd, None)?;
        ready.recv(&mut [0; 256]).context("tgtd is not ready")?;
        Ok(Self { process, socket, control, count: 0 })
    }

    /// Kills tgtd, which loses all exports.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill(END_LIMIT)
    }

    /// Exports a volume to its initiator.
    pub(crate) fn export(&mut self, export: &Export) -> Result<()> {
        self.count += 1;
        let tid = self.count.to_string();
        let image = export.image.display().to_string();
        let Account { username, password } = &export.account;
        self.run_tgtadm("new", "target", &["--tid", &tid, "--targetname", &export.iqn])?;
        let lun = export.lun.to_string();
        let block_size = export.block_size.to_string();
        let store = ["--tid", &tid, "--lun", &lun, "--backing-store", &image, "--blocksize", &block_size];
        self.run_tgtadm("new", "logicalunit", &store)?;
        self.run_tgtadm("new", "account", &["--user", username, "--password", password])?;
        self.run_tgtadm("bind", "account", &["--tid", &tid, "--user", username])?;
        self.run_tgtadm("bind", "target", &["--tid", &tid, "--initiator-name", &export.initiator])
    }

    fn run_tgtadm(&self, operation: &str, mode: &str, rest: &[&str]) -> Result<()> {
        let mut command = Command::new("tgtadm");
        command.env("TGT_IPC_SOCKET", &self.socket);
        command.args(["--control-port", &self.control, "--lld", "iscsi", "--op", operation, "--mode", mode]);
        let output = command.args(rest).output().context("cannot run tgtadm (package tgt)")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tgtadm cannot {operation} {mode}: {}", stderr.trim());
        Ok(())
    }
}
