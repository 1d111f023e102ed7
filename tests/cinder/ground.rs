//! What all tests stand on: the lab, its cloud, and people who use it.

use anyhow::Result;

use crate::lab::Lab;
use crate::lab::cinder::{Client, Cloud};

/// The lab with everything in it that is started once.
pub(crate) struct Ground {
    /// Network and files.
    pub(crate) lab: Lab,
    /// Keystone, Cinder and the target.
    pub(crate) cloud: Cloud,
    /// An owner of volumes, in volboot's own project.
    pub(crate) owner: Client,
    /// Who may do everything.
    pub(crate) admin: Client,
}

impl Ground {
    /// Starts the cloud.
    pub(crate) fn open(lab: Lab) -> Result<Self> {
        let cloud = Cloud::start(&lab)?;
        let (owner, admin) = (Client::new("volboot", "boot")?, Client::new("admin", "admin")?);
        Ok(Self { lab, cloud, owner, admin })
    }

    /// Sets right what the test before may have left.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        self.cloud.mend()?;
        self.owner.clear()
    }
}
