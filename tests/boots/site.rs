//! The usual set-up of a test: storage, DHCP and volboot, and machines that are registered.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::lab::api::Api;
use crate::lab::daemon::Daemon;
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::snippets;
use crate::lab::target::{Export, Target};

/// The name the machine's initiator has to have.
pub(crate) const INITIATOR: &str = "iqn.2026-01.lab.volboot:node-1";
/// No step of a boot takes longer than this, even on a busy host.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// What happened is in volboot's log at once.
pub(crate) const LOG_LIMIT: Duration = Duration::from_secs(60);
/// The machine's network card.
pub(crate) const MAC: &str = "52:54:00:12:34:56";

/// What a machine finds when it is switched on.
pub(crate) struct Site {
    /// volboot.
    pub(crate) volboot: Daemon,
    /// volboot's API.
    pub(crate) api: Api,
    _dhcp: Server,
}

/// The site's DHCP server: one for the test, or one as operators have it.
enum Server {
    Lab { _dhcp: Dhcp },
    Snippet { _dhcp: snippets::Site },
}

impl Site {
    /// DHCP and volboot; `sections` stand in its configuration.
    pub(crate) fn open(lab: &Lab, rom: Rom, sections: &str) -> Result<Self> {
        let dhcp = Dhcp::start(lab, rom)?;
        let volboot = Daemon::start(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), sections, None)?;
        Ok(Self { volboot, api: Api::new()?, _dhcp: Server::Lab { _dhcp: dhcp } })
    }

    /// volboot, with a DHCP server as operators have it.
    pub(crate) fn with(volboot: Daemon, dhcp: snippets::Site) -> Result<Self> {
        Ok(Self { volboot, api: Api::new()?, _dhcp: Server::Snippet { _dhcp: dhcp } })
    }

    /// volboot, with a DHCP server that was told what it needs.
    pub(crate) fn with_lab_dhcp(volboot: Daemon, dhcp: Dhcp) -> Result<Self> {
        Ok(Self { volboot, api: Api::new()?, _dhcp: Server::Lab { _dhcp: dhcp } })
    }

    /// Registers the machine with its volumes, the first of which it boots; returns the node's UUID.
    pub(crate) fn register(&self, exports: &[&Export]) -> Result<String> {
        let node = self.api.create_node("node-1")?;
        self.api.create_port(&node, MAC)?;
        self.api.create_connector(&node, INITIATOR)?;
        for (index, export) in (0..).zip(exports) {
            self.api.create_target(&node, index, export, None)?;
        }
        Ok(node)
    }
}

/// The folder with a newer iPXE than the distribution's, which `tests/lab/install` has fetched.
pub(crate) fn newer_ipxe() -> Result<PathBuf> {
    let newer = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("ipxe-trixie");
    ensure!(newer.join("snponly.efi").exists(), "no iPXE in {}: run `make setup`", newer.display());
    Ok(newer)
}

/// A target that offers all of `exports`.
pub(crate) fn storage(lab: &Lab, exports: &[&Export]) -> Result<Target> {
    let mut target = Target::start(lab)?;
    for export in exports {
        target.offer(export)?;
    }
    Ok(target)
}
