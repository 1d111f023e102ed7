//! A small data centre for one test: a network, an iSCSI target, a DHCP server, volboot, and machines to
//! switch on.
//!
//! Everything is the real thing (tgt, dnsmasq, QEMU with its firmware, iPXE, GRUB, the `volboot` binary) and
//! everything is private to the [`Lab`] it was started in: its own network namespace, its own files, its own
//! processes. Labs do not see one another, so they may use the same addresses and run side by side, and a
//! killed test leaves nothing behind but an empty directory.
//!
//! A lab belongs to the thread that made it ([`network`] says why), so a whole test runs on one thread:
//! [`run`] gives it one.
//!
//! Included by `tests/boots`, `tests/cinder`, `tests/quickstart` and `tests/demo`, none of which needs every part of it.
#![allow(dead_code, reason = "each of the programs that include the lab uses its own part of it")]

pub(crate) mod api;
pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod cinder;
pub(crate) mod console;
pub(crate) mod daemon;
pub(crate) mod dhcp;
pub(crate) mod host;
pub(crate) mod initiator;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod readme;
pub(crate) mod snippets;
pub(crate) mod target;
pub(crate) mod volume;

use std::path::{Path, PathBuf};
use std::{panic, thread};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// One private network and one private directory; all other parts are started in it.
pub(crate) struct Lab {
    directory: PathBuf,
}

impl Lab {
    /// Takes the calling thread out of the host's network and into one of its own, for good.
    ///
    /// Others see `directory` stay empty. It is the caller's, to be removed when the lab's thread has ended.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        network::leave_the_host()?;
        keep_in_memory(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Where the lab's files are.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }
}

/// A new directory for a lab; removed when it is dropped.
pub(crate) fn directory() -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("volboot-lab-").tempdir().context("cannot make a directory for the lab")
}

/// Puts a file system into `directory` that this thread and its processes see, and that is gone with the last
/// of them.
fn keep_in_memory(directory: &Path) -> Result<()> {
    let nowhere: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(nowhere, "/", nowhere, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nowhere)?;
    mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), nowhere)?;
    Ok(())
}

/// Runs `test` in a lab of its own and hands on its result, or its panic.
pub(crate) fn run(test: impl FnOnce(&Lab) -> Result<()> + Send + 'static) -> Result<()> {
    assert!(network::is_root(), "needs root: `make` tells how to run it");
    let directory = directory()?;
    let path = directory.path().to_owned();
    let thread = thread::spawn(move || test(&Lab::open(&path)?));
    thread.join().unwrap_or_else(|reason| panic::resume_unwind(reason))
}
