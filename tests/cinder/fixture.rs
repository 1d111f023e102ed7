//! The shared fixture of all tests: the lab, the cloud, and two clients of the cloud.

use anyhow::Result;

use crate::lab::Lab;
use crate::lab::cinder::{Client, Cloud};

/// The lab and everything that is started once.
pub(crate) struct Fixture {
    /// Network and files.
    pub(crate) lab: Lab,
    /// Keystone, Cinder and the target.
    pub(crate) cloud: Cloud,
    /// A client in volboot's own project, which owns the volumes.
    pub(crate) owner: Client,
    /// A client with role admin.
    pub(crate) admin: Client,
}

impl Fixture {
    /// Starts the cloud.
    pub(crate) fn open(lab: Lab) -> Result<Self> {
        let cloud = Cloud::start(&lab)?;
        let (owner, admin) = (Client::new("volboot", "boot")?, Client::new("admin", "admin")?);
        Ok(Self { lab, cloud, owner, admin })
    }

    /// Cleans up after the previous test.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        self.cloud.restart_stopped()?;
        self.owner.clear()
    }
}
