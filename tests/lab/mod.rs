//! The lab: a small data centre for one test, with a network, an iSCSI target, a DHCP server, volboot, and machines.
//!
//! All parts are real (tgt, dnsmasq, QEMU with its firmware, iPXE, GRUB, the `volboot` binary). All are private to their
//! [`Lab`]: network namespace, files and processes. Labs are isolated, so they may use the same addresses and run in
//! parallel. A killed test leaves only an empty directory behind.
//!
//! A lab belongs to the thread that created it (see [`network`]), so each test runs on one thread, started by [`run`].
//!
//! Included by `tests/boots`, `tests/cinder`, `tests/quickstart` and `tests/demo`.
#![allow(dead_code, reason = "each including program uses some parts of the lab only")]

pub(crate) mod address_server;
pub(crate) mod api;
pub(crate) mod bmc;
pub(crate) mod browser;
pub(crate) mod ca;
pub(crate) mod cinder;
pub(crate) mod console;
pub(crate) mod daemon;
pub(crate) mod dhcp;
pub(crate) mod dhcp_configs;
pub(crate) mod documents;
pub(crate) mod host;
pub(crate) mod hypervisor;
pub(crate) mod initiator;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod other_network;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod target;
pub(crate) mod volume;

use std::path::{Path, PathBuf};
use std::{panic, thread};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// A private network and a private directory, in which all other parts run.
pub(crate) struct Lab {
    directory: PathBuf,
}

impl Lab {
    /// Moves the calling thread into a network namespace of its own, permanently.
    ///
    /// Outside the lab `directory` stays empty. The caller removes it after the thread's end.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        network::enter_namespace()?;
        mount_tmpfs(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The directory of the lab's files.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }
}

/// Creates a directory for a lab; dropping it removes it.
pub(crate) fn create_directory() -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("volboot-lab-").tempdir().context("cannot create a directory for the lab")
}

/// Mounts a tmpfs at `directory`, visible to this thread and its processes only; it ends with the last of them.
fn mount_tmpfs(directory: &Path) -> Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), none)?;
    Ok(())
}

/// Runs `test` in a lab of its own; returns its result, or propagates its panic.
pub(crate) fn run(test: impl FnOnce(&Lab) -> Result<()> + Send + 'static) -> Result<()> {
    assert!(network::is_root(), "needs root: see `make`");
    let directory = create_directory()?;
    let path = directory.path().to_owned();
    let thread = thread::spawn(move || test(&Lab::open(&path)?));
    thread.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
}
