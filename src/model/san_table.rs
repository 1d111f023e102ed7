//! [`SanTable`]: the drive number of each volume of a boot plan, and its entries in the iBFT.
//!
//! iPXE leaves an ACPI table (iBFT) for the operating system, with one entry per path of each *described* volume. The
//! initramfs logs in again from these entries. Two limits of the table decide the layout:
//!
//! * Linux (`drivers/firmware/iscsi_ibft.c`, `ibft_verify_hdr`) requires a control structure of exactly the length
//!   for two targets, and rejects the whole table otherwise. So the limit is two entries, on any firmware.
//! * In BIOS, all of iPXE's tables share 768 bytes, of which two entries leave 256 for names and secrets. Beyond
//!   that, `sanhook` fails with "Could not describe SAN devices". So data volumes are never described in BIOS.
//!
//! A volume outside the table is hooked all the same: the boot loader sees the drive, and the operating system finds
//! the volume through its own configuration.

use secrecy::ExposeSecret;

use super::{BootPlan, BootVolume, Platform, SanUri};

/// Entries of the table that Linux accepts.
const MAX_ENTRIES: usize = 2;

/// Bytes for names and secrets in iPXE's BIOS table: 768 in all, less the fixed part of two entries.
const BIOS_STRINGS: usize = 768 - 512;

/// Bytes reserved there for a host name from DHCP.
const HOST_NAME: usize = 32;

/// The drive number of the boot volume. Data volumes follow.
const FIRST_DRIVE: u8 = 0x80;

/// The most data volumes: drive number 0xff is reserved, since iPXE reads it as "the next free number".
const MAX_DATA: usize = 0xff - FIRST_DRIVE as usize - 1;

/// The `sanhook` commands for the volumes of one plan.
#[derive(Debug, Clone, PartialEq)]
pub struct SanTable<'a> {
    /// The boot volume first.
    pub hooks: Vec<Hook<'a>>,
    /// Paths and volumes that had to be omitted, as sentences.
    pub warnings: Vec<String>,
}

/// One `sanhook`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook<'a> {
    /// The drive number: 0x80 for the boot volume, then 0x81, …
    pub drive: u8,
    /// The volume.
    pub volume: &'a BootVolume,
    /// The paths to use: iPXE opens all of them and keeps the first that works.
    pub paths: &'a [SanUri],
    /// Whether the iBFT describes the volume to the operating system.
    pub in_ibft: bool,
}

impl<'a> SanTable<'a> {
    /// Lays out a plan for the machine's firmware.
    pub fn new(plan: &'a BootPlan, platform: Platform) -> Self {
        let mut warnings = Vec::new();
        let max_boot_paths = match platform {
            Platform::Uefi => MAX_ENTRIES,
            Platform::Bios => count_bios_entries(plan),
        };
        // A `sanhook` command describes either all of its paths or no path.
        let boot_paths = plan.boot.paths.len().min(max_boot_paths.max(1));
        if boot_paths < plan.boot.paths.len() {
            warnings.push(format!(
                "{} of the {} paths to volume {} are omitted: the iBFT has no room for more",
                plan.boot.paths.len() - boot_paths,
                plan.boot.paths.len(),
                plan.boot.id
            ));
        }
        if plan.boot.paths[..boot_paths].iter().any(|path| path.portal.is_ipv6()) {
            warnings.push(format!(
                "volume {} has an IPv6 portal, which the iBFT cannot hold: configure it in the operating system",
                plan.boot.id
            ));
        }
        let mut free_entries = match platform {
            Platform::Uefi => MAX_ENTRIES - boot_paths,
            Platform::Bios => 0,
        };
        let mut hooks = vec![Hook {
            drive: FIRST_DRIVE,
            volume: &plan.boot,
            paths: &plan.boot.paths[..boot_paths],
            in_ibft: true,
        }];
        for (volume, drive) in plan.data.iter().take(MAX_DATA).zip(FIRST_DRIVE + 1..) {
            let in_ibft = volume.paths.len() <= free_entries;
            if in_ibft {
                free_entries -= volume.paths.len();
            }
            hooks.push(Hook { drive, volume, paths: &volume.paths, in_ibft });
        }
        if plan.data.len() > MAX_DATA {
            warnings.push(format!(
                "{} data volumes are omitted: no drive numbers are left",
                plan.data.len() - MAX_DATA
            ));
        }
        Self { hooks, warnings }
    }
}

/// Counts the paths of the boot volume that fit into the BIOS table.
fn count_bios_entries(plan: &BootPlan) -> usize {
    let with_nul = |text: &str| text.len() + 1;
    let chap = plan
        .boot
        .chap
        .as_ref()
        .map_or(0, |chap| with_nul(&chap.username) + with_nul(chap.password.expose_secret()));
    let mut used = with_nul(plan.initiator.as_str()) + HOST_NAME;
    plan.boot
        .paths
        .iter()
        .take(MAX_ENTRIES)
        .take_while(|path| {
            used += with_nul(path.target.as_str()) + chap;
            used <= BIOS_STRINGS
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Chap, Lun};
    use uuid::Uuid;

    fn volume(id: &str, paths: usize, chap: bool) -> BootVolume {
        let path = |n: usize| SanUri {
            portal: format!("192.0.2.{n}").parse().expect("a portal"),
            lun: Lun::new(1),
            target: format!("iqn.2010-10.org.openstack:volume-{id}").parse().expect("a name"),
        };
        let chap = chap.then(|| Chap { username: "u".repeat(20), password: "p".repeat(16).into() });
        BootVolume { id: id.to_owned(), paths: (1..=paths).map(path).collect(), chap }
    }

    fn plan(boot: BootVolume, data: Vec<BootVolume>) -> BootPlan {
        let initiator = "iqn.2017-08.org.openstack.2f1dcbe7-6e5a-4b2c-8e0c-000000000001";
        BootPlan {
            node: Uuid::nil(),
            label: "node".into(),
            initiator: initiator.parse().expect("a name"),
            boot,
            data,
            loader: None,
            notes: vec![],
        }
    }

    /// (drive, paths, in_ibft) of every hook.
    fn hooks(plan: &BootPlan, platform: Platform) -> Vec<(u8, usize, bool)> {
        SanTable::new(plan, platform).hooks.iter().map(|h| (h.drive, h.paths.len(), h.in_ibft)).collect()
    }

    const UUID: &str = "2f1dcbe7-6e5a-4b2c-8e0c-000000000001";

    #[test]
    fn a_single_cinder_volume_with_chap_fits_everywhere() {
        let plan = plan(volume(UUID, 1, true), vec![]);
        assert_eq!(hooks(&plan, Platform::Bios), [(0x80, 1, true)]);
        assert_eq!(hooks(&plan, Platform::Uefi), [(0x80, 1, true)]);
        assert_eq!(SanTable::new(&plan, Platform::Bios).warnings, Vec::<String>::new());
    }

    #[test]
    fn uses_a_second_path_if_the_table_has_room() {
        let long = plan(volume(UUID, 2, true), vec![]);
        assert_eq!(hooks(&long, Platform::Bios), [(0x80, 1, true)]);
        assert_eq!(SanTable::new(&long, Platform::Bios).warnings.len(), 1);
        assert_eq!(hooks(&long, Platform::Uefi), [(0x80, 2, true)]);
        let short = plan(volume("a", 2, false), vec![]);
        assert_eq!(hooks(&short, Platform::Bios), [(0x80, 2, true)]);
    }

    #[test]
    fn describes_at_most_two_paths_or_linux_rejects_the_table() {
        let many = plan(volume("a", 4, false), vec![]);
        assert_eq!(hooks(&many, Platform::Uefi), [(0x80, 2, true)]);
        let three = plan(volume("a", 1, false), vec![volume("b", 1, false), volume("c", 1, false)]);
        assert_eq!(hooks(&three, Platform::Uefi), [(0x80, 1, true), (0x81, 1, true), (0x82, 1, false)]);
    }

    #[test]
    fn never_describes_data_volumes_in_bios_but_uses_all_their_paths() {
        let plan = plan(volume("a", 1, false), vec![volume("b", 3, false)]);
        assert_eq!(hooks(&plan, Platform::Bios), [(0x80, 1, true), (0x81, 3, false)]);
        assert_eq!(hooks(&plan, Platform::Uefi), [(0x80, 1, true), (0x81, 3, false)]);
    }

    #[test]
    fn warns_about_an_ipv6_path() {
        let mut boot = volume("a", 1, false);
        boot.paths[0].portal = "[2001:db8::1]".parse().expect("a portal");
        let plan = plan(boot, vec![]);
        assert_eq!(SanTable::new(&plan, Platform::Uefi).warnings.len(), 1);
    }

    #[test]
    fn warns_about_more_volumes_than_drive_numbers() {
        let plan = plan(volume("a", 1, false), vec![volume("b", 1, false); 130]);
        let table = SanTable::new(&plan, Platform::Uefi);
        assert_eq!(table.hooks.last().map(|hook| hook.drive), Some(0xfe));
        assert_eq!(table.warnings, ["4 data volumes are omitted: no drive numbers are left"]);
    }
}
