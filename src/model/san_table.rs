//! [`SanTable`]: which volume becomes which drive, and which of them the operating system is told about.
//!
//! iPXE leaves the operating system an ACPI table (iBFT) with one entry per path of each *described* volume, from
//! which its initramfs logs in again. The table has two limits that decide how a plan is hooked:
//!
//! * Linux (`drivers/firmware/iscsi_ibft.c`, `ibft_verify_hdr`) wants the control structure to be exactly as long
//!   as one with two targets, and rejects the whole table otherwise. So there are two entries, on any firmware.
//! * In BIOS, iPXE gives all its tables 768 bytes, of which two entries leave 256 for names and secrets; beyond it
//!   `sanhook` fails with "Could not describe SAN devices". So there, data volumes are never described.
//!
//! What is not described is hooked all the same: the boot loader sees the drive, and the operating system finds it
//! by its own configuration.

use secrecy::ExposeSecret;

use super::{BootPlan, Platform, SanUri, Volume};

/// Entries of the table that Linux accepts.
const MAX_ENTRIES: usize = 2;

/// Bytes for names and secrets in iPXE's BIOS table: 768 in all, less the fixed part of two entries.
const BIOS_STRINGS: usize = 768 - 512;

/// Room kept in it for the host name that DHCP may give.
const HOST_NAME: usize = 32;

/// The drive number of the boot volume. Data volumes follow it.
const FIRST_DRIVE: u8 = 0x80;

/// The most data volumes: the last drive number is 0xff, which iPXE keeps for "the next free one".
const MAX_DATA: usize = 0xff - FIRST_DRIVE as usize - 1;

/// How the volumes of one plan are hooked.
#[derive(Debug, Clone, PartialEq)]
pub struct SanTable<'a> {
    /// The boot volume first.
    pub hooks: Vec<Hook<'a>>,
    /// What had to be left out, in words.
    pub warnings: Vec<String>,
}

/// One `sanhook`.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook<'a> {
    /// 0x80 for the boot volume, then 0x81, …
    pub drive: u8,
    /// The volume.
    pub volume: &'a Volume,
    /// The paths that are used: iPXE opens all of them and stays on the first that works.
    pub paths: &'a [SanUri],
    /// Whether it stands in the table for the operating system.
    pub described: bool,
}

impl<'a> SanTable<'a> {
    /// Lays out a plan for the firmware it will run on.
    pub fn new(plan: &'a BootPlan, platform: Platform) -> Self {
        let mut warnings = Vec::new();
        let fitting = match platform {
            Platform::Uefi => MAX_ENTRIES,
            Platform::Bios => bios_entries(plan),
        };
        // The paths of one command are all described or none is.
        let boot_paths = plan.boot.paths.len().min(fitting.max(1));
        if boot_paths < plan.boot.paths.len() {
            warnings.push(format!(
                "{} of the {} paths to volume {} are left out: the iBFT has no room for them",
                plan.boot.paths.len() - boot_paths,
                plan.boot.paths.len(),
                plan.boot.id
            ));
        }
        if plan.boot.paths[..boot_paths].iter().any(|path| path.portal.is_ipv6()) {
            warnings.push(format!(
                "volume {} is reached by IPv6, which the iBFT cannot hold: the operating system must know it otherwise",
                plan.boot.id
            ));
        }
        let mut free = match platform {
            Platform::Uefi => MAX_ENTRIES - boot_paths,
            Platform::Bios => 0,
        };
        let mut hooks = vec![Hook {
            drive: FIRST_DRIVE,
            volume: &plan.boot,
            paths: &plan.boot.paths[..boot_paths],
            described: true,
        }];
        for (volume, drive) in plan.data.iter().take(MAX_DATA).zip(FIRST_DRIVE + 1..) {
            let described = volume.paths.len() <= free;
            if described {
                free -= volume.paths.len();
            }
            hooks.push(Hook { drive, volume, paths: &volume.paths, described });
        }
        if plan.data.len() > MAX_DATA {
            warnings
                .push(format!("{} data volumes are left out: no drive numbers", plan.data.len() - MAX_DATA));
        }
        Self { hooks, warnings }
    }
}

/// How many paths of the boot volume fit into the BIOS table.
fn bios_entries(plan: &BootPlan) -> usize {
    let terminated = |text: &str| text.len() + 1;
    let chap = plan
        .boot
        .chap
        .as_ref()
        .map_or(0, |chap| terminated(&chap.username) + terminated(chap.password.expose_secret()));
    let mut used = terminated(plan.initiator.as_str()) + HOST_NAME;
    plan.boot
        .paths
        .iter()
        .take(MAX_ENTRIES)
        .take_while(|path| {
            used += terminated(path.target.as_str()) + chap;
            used <= BIOS_STRINGS
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Chap, Lun};
    use uuid::Uuid;

    fn volume(id: &str, paths: usize, chap: bool) -> Volume {
        let path = |n: usize| SanUri {
            portal: format!("192.0.2.{n}").parse().expect("a portal"),
            lun: Lun::new(1),
            target: format!("iqn.2010-10.org.openstack:volume-{id}").parse().expect("a name"),
        };
        let chap = chap.then(|| Chap { username: "u".repeat(20), password: "p".repeat(16).into() });
        Volume { id: id.to_owned(), paths: (1..=paths).map(path).collect(), chap }
    }

    fn plan(boot: Volume, data: Vec<Volume>) -> BootPlan {
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

    /// (drive, paths, described) of every hook.
    fn hooks(plan: &BootPlan, platform: Platform) -> Vec<(u8, usize, bool)> {
        SanTable::new(plan, platform).hooks.iter().map(|h| (h.drive, h.paths.len(), h.described)).collect()
    }

    const UUID: &str = "2f1dcbe7-6e5a-4b2c-8e0c-000000000001";

    #[test]
    fn one_cinder_volume_with_chap_fits_everywhere() {
        let plan = plan(volume(UUID, 1, true), vec![]);
        assert_eq!(hooks(&plan, Platform::Bios), [(0x80, 1, true)]);
        assert_eq!(hooks(&plan, Platform::Uefi), [(0x80, 1, true)]);
        assert_eq!(SanTable::new(&plan, Platform::Bios).warnings, Vec::<String>::new());
    }

    #[test]
    fn a_second_path_is_used_where_the_table_has_room() {
        let long = plan(volume(UUID, 2, true), vec![]);
        assert_eq!(hooks(&long, Platform::Bios), [(0x80, 1, true)]);
        assert_eq!(SanTable::new(&long, Platform::Bios).warnings.len(), 1);
        assert_eq!(hooks(&long, Platform::Uefi), [(0x80, 2, true)]);
        let short = plan(volume("a", 2, false), vec![]);
        assert_eq!(hooks(&short, Platform::Bios), [(0x80, 2, true)]);
    }

    #[test]
    fn a_third_entry_would_make_linux_reject_the_table() {
        let many = plan(volume("a", 4, false), vec![]);
        assert_eq!(hooks(&many, Platform::Uefi), [(0x80, 2, true)]);
        let three = plan(volume("a", 1, false), vec![volume("b", 1, false), volume("c", 1, false)]);
        assert_eq!(hooks(&three, Platform::Uefi), [(0x80, 1, true), (0x81, 1, true), (0x82, 1, false)]);
    }

    #[test]
    fn data_volumes_are_never_described_in_bios_and_keep_their_paths() {
        let plan = plan(volume("a", 1, false), vec![volume("b", 3, false)]);
        assert_eq!(hooks(&plan, Platform::Bios), [(0x80, 1, true), (0x81, 3, false)]);
        assert_eq!(hooks(&plan, Platform::Uefi), [(0x80, 1, true), (0x81, 3, false)]);
    }

    #[test]
    fn an_ipv6_path_is_a_warning() {
        let mut given = volume("a", 1, false);
        given.paths[0].portal = "[2001:db8::1]".parse().expect("a portal");
        let plan = plan(given, vec![]);
        assert_eq!(SanTable::new(&plan, Platform::Uefi).warnings.len(), 1);
    }

    #[test]
    fn more_volumes_than_drive_numbers_are_a_warning() {
        let plan = plan(volume("a", 1, false), vec![volume("b", 1, false); 130]);
        let table = SanTable::new(&plan, Platform::Uefi);
        assert_eq!(table.hooks.last().map(|hook| hook.drive), Some(0xfe));
        assert_eq!(table.warnings, ["4 data volumes are left out: no drive numbers"]);
    }
}
