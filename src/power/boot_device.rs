//! Ironic's boot devices, set by the boot override of Redfish.

use std::time::Instant;

use super::observation::PowerCall;
use super::{BmcClaim, Power, PowerError};
use crate::model::Node;
use crate::redfish::{Bmc, BootMode, BootSource, OverrideRequest};

/// A boot device of Ironic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootDevice {
    /// `pxe`
    Pxe,
    /// `disk`
    Disk,
    /// `cdrom`
    Cdrom,
    /// `bios`: the setup menu.
    Bios,
    /// `uefihttp`
    UefiHttp,
}

/// All boot devices, in Ironic's order.
pub const BOOT_DEVICES: [BootDevice; 5] =
    [BootDevice::Pxe, BootDevice::Disk, BootDevice::Cdrom, BootDevice::Bios, BootDevice::UefiHttp];

/// The boot device of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootDeviceState {
    /// The device; `None`: the firmware's boot order, or a source without a name in Ironic.
    pub device: Option<BootDevice>,
    /// Whether it applies to all boots; `None`: to no boot.
    pub persistent: Option<bool>,
}

/// The key of `driver_internal_info` with the boot device that volboot sets again before it switches the machine on: the BMC
/// knows no override for all boots. Ironic's name, for nodes that come from it.
pub(super) const RESTORED_DEVICE: &str = "redfish_boot_device";

impl BootDevice {
    /// Ironic's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pxe => "pxe",
            Self::Disk => "disk",
            Self::Cdrom => "cdrom",
            Self::Bios => "bios",
            Self::UefiHttp => "uefihttp",
        }
    }

    /// Parses Ironic's name.
    pub fn parse(name: &str) -> Option<Self> {
        BOOT_DEVICES.into_iter().find(|device| device.as_str() == name)
    }

    const fn source(self) -> BootSource {
        match self {
            Self::Pxe => BootSource::Pxe,
            Self::Disk => BootSource::Hdd,
            Self::Cdrom => BootSource::Cd,
            Self::Bios => BootSource::BiosSetup,
            Self::UefiHttp => BootSource::UefiHttp,
        }
    }
}

/// The boot mode that a node's capability `boot_mode` asks for.
fn wanted_mode(node: &Node) -> Option<BootMode> {
    match node.capabilities().get("boot_mode")? {
        "uefi" => Some(BootMode::Uefi),
        "bios" => Some(BootMode::Legacy),
        _ => None,
    }
}

impl Power {
    /// Reads the boot device from the BMC. The caller holds the claim.
    pub async fn read_boot_device(
        &self,
        node: &Node,
        _claim: &BmcClaim<'_>,
    ) -> Result<BootDeviceState, PowerError> {
        let started_at = Instant::now();
        let read = async { Ok(self.station(node).await?.read_system().await?.boot) };
        let result = read.await;
        self.count_call(PowerCall::BootDevice, started_at, &result);
        let boot = result?;
        let device = BOOT_DEVICES.into_iter().find(|device| Some(device.source()) == boot.source);
        // A device that is set again before each boot is as good as a persistent one.
        if let Some(restored) = node.driver_internal_info.text(RESTORED_DEVICE) {
            return Ok(BootDeviceState { device: BootDevice::parse(restored), persistent: Some(true) });
        }
        Ok(BootDeviceState { device, persistent: boot.persistent })
    }

    /// Sets the boot device, for the next boot or for all. Returns the node as it is to be stored: without a persistent
    /// override of the BMC, the node notes the device. The caller holds the claim.
    pub async fn set_boot_device(
        &self,
        node: &Node,
        claim: &BmcClaim<'_>,
        device: BootDevice,
        persistent: bool,
    ) -> Result<BootDeviceNote, PowerError> {
        let started_at = Instant::now();
        let set = async {
            let bmc = self.station(node).await?;
            let system = bmc.read_system().await?;
            let request = OverrideRequest { source: device.source(), persistent, mode: wanted_mode(node) };
            Ok(bmc.set_boot_override(&system, request).await?)
        };
        let result = claim.guard(set).await;
        self.count_call(PowerCall::BootDevice, started_at, &result);
        let boot = result?;
        let is_forgotten = persistent && boot.persistent == Some(false);
        Ok(BootDeviceNote(is_forgotten.then_some(device)))
    }

    /// Sets a device again that the BMC forgets at each boot. A failure is logged: the firmware's boot order remains.
    pub(super) async fn restore_boot_device(&self, node: &Node, bmc: &Bmc) {
        let device = node.driver_internal_info.text(RESTORED_DEVICE).and_then(BootDevice::parse);
        let Some(device) = device else { return };
        let restore = async {
            let system = bmc.read_system().await?;
            let request =
                OverrideRequest { source: device.source(), persistent: false, mode: wanted_mode(node) };
            bmc.set_boot_override(&system, request).await
        };
        if let Err(error) = restore.await {
            tracing::warn!(node = %node.uuid, device = device.as_str(), %error, "cannot restore the boot device");
        }
    }
}

/// What a node has to note about its boot device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootDeviceNote(Option<BootDevice>);

impl BootDeviceNote {
    /// Writes the note into the node.
    #[must_use]
    pub fn write(self, node: Node) -> Node {
        let info = node.driver_internal_info.clone();
        let driver_internal_info = match self.0 {
            Some(device) => info.with_text(RESTORED_DEVICE, device.as_str()),
            None => info.without(RESTORED_DEVICE),
        };
        Node { driver_internal_info, ..node }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::model::StorageInterface;

    #[test]
    fn the_mode_is_that_of_the_capability() {
        let node = Node::new(Uuid::nil(), "redfish", StorageInterface::Noop, Timestamp::UNIX_EPOCH);
        let mode = |capabilities: &str| {
            let properties =
                serde_json::from_value(json!({"capabilities": capabilities})).expect("an object");
            wanted_mode(&Node { properties, ..node.clone() })
        };
        assert_eq!(mode("iscsi_boot:True,boot_mode:uefi"), Some(BootMode::Uefi));
        assert_eq!(mode("boot_mode:bios"), Some(BootMode::Legacy));
        assert_eq!(mode("iscsi_boot:True"), None);
    }

    #[test]
    fn a_node_notes_a_device_that_its_bmc_forgets() {
        let node = Node::new(Uuid::nil(), "redfish", StorageInterface::Noop, Timestamp::UNIX_EPOCH);
        let noted = BootDeviceNote(Some(BootDevice::Pxe)).write(node);
        assert_eq!(noted.driver_internal_info.text(RESTORED_DEVICE), Some("pxe"));
        assert_eq!(BootDeviceNote(None).write(noted).driver_internal_info.text(RESTORED_DEVICE), None);
    }
}
