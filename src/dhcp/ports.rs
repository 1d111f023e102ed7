//! The UDP ports of DHCP and PXE.

/// Port of DHCP servers and relays.
pub(super) const SERVER_PORT: u16 = 67;
/// Port of DHCP clients.
pub(super) const CLIENT_PORT: u16 = 68;
/// Port of PXE boot servers. UEFI sends its request from this port too.
pub(super) const BOOT_SERVER_PORT: u16 = 4011;
