//! [`Site`]: the usual set-up of a boot test: DHCP, volboot, storage and a registered machine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::lab::Lab;
use crate::lab::api::Api;
use crate::lab::daemon::Daemon;
use crate::lab::dhcp::{Dhcp, Rom};
use crate::lab::dhcp_configs;
use crate::lab::target::{Export, Target};

/// The machine's initiator name.
pub(crate) const INITIATOR: &str = "iqn.2026-01.lab.volboot:node-1";
/// The time-out of a step of a boot, even on a busy host.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// The time-out of a log line.
pub(crate) const LOG_LIMIT: Duration = Duration::from_secs(60);
/// The machine's network card.
pub(crate) const MAC: &str = "52:54:00:12:34:56";

/// A running site.
pub(crate) struct Site {
    /// The volboot process.
    pub(crate) volboot: Daemon,
    /// A client of the API.
    pub(crate) api: Api,
    _dhcp: DhcpServer,
}

/// The site's DHCP server: the lab's, or one with a packaged configuration file.
enum DhcpServer {
    Lab { _dhcp: Dhcp },
    Packaged { _dhcp: dhcp_configs::PackagedDhcp },
    None,
}

impl Site {
    /// Starts the lab's DHCP server and volboot with additional `sections` in its configuration.
    pub(crate) fn open(lab: &Lab, rom: Rom, sections: &str) -> Result<Self> {
        let dhcp = Dhcp::start(lab, rom)?;
        let volboot = Daemon::start(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), sections, None)?;
        Ok(Self { volboot, api: Api::new()?, _dhcp: DhcpServer::Lab { _dhcp: dhcp } })
    }

    /// A site with a packaged DHCP configuration.
    pub(crate) fn with_packaged_dhcp(volboot: Daemon, dhcp: dhcp_configs::PackagedDhcp) -> Result<Self> {
        Ok(Self { volboot, api: Api::new()?, _dhcp: DhcpServer::Packaged { _dhcp: dhcp } })
    }

    /// A site whose DHCP server is the caller's.
    pub(crate) fn without_dhcp(volboot: Daemon) -> Result<Self> {
        Ok(Self { volboot, api: Api::new()?, _dhcp: DhcpServer::None })
    }

    /// A site with the lab's DHCP server.
    pub(crate) fn with_lab_dhcp(volboot: Daemon, dhcp: Dhcp) -> Result<Self> {
        Ok(Self { volboot, api: Api::new()?, _dhcp: DhcpServer::Lab { _dhcp: dhcp } })
    }

    /// Creates the machine's node with its volumes, the boot volume first; returns the node's UUID.
    pub(crate) fn register(&self, exports: &[&Export]) -> Result<String> {
        self.register_with(INITIATOR, exports)
    }

    /// Creates the machine's node with this initiator name.
    pub(crate) fn register_with(&self, initiator: &str, exports: &[&Export]) -> Result<String> {
        let node = self.api.create_node("node-1")?;
        self.api.create_port(&node, MAC)?;
        self.api.create_connector(&node, initiator)?;
        for (index, export) in (0..).zip(exports) {
            self.api.create_target(&node, index, export, None)?;
        }
        Ok(node)
    }
}

/// The folder with a newer iPXE than the distribution's, downloaded by `tests/lab/install`.
pub(crate) fn newer_ipxe() -> Result<PathBuf> {
    let newer = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("ipxe-trixie");
    ensure!(newer.join("snponly.efi").exists(), "no iPXE in {}: run `make setup`", newer.display());
    Ok(newer)
}

/// Starts a target with these exports.
pub(crate) fn start_storage(lab: &Lab, exports: &[&Export]) -> Result<Target> {
    let mut target = Target::start(lab)?;
    for export in exports {
        target.export(export)?;
    }
    Ok(target)
}
