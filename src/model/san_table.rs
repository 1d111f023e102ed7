//! [`SanTable`]: the drive number of each volume of a boot plan, and its entries in the iBFT.
//!
//! iPXE leaves an ACPI table (iBFT) for the operating system, with one entry per path of each *described* volume. The
//! initramfs logs in again from these entries. Two limits of the table decide the layout:
//!
//! * Linux (`drivers/firmware/iscsi_ibft.c`, `ibft_verify_hdr`) requires a control structure of exactly the length
//!   for two targets, and rejects the whole table otherwise. So the limit is two entries, on any firmware.
//! * In BIOS, all of iPXE's tables share 768 bytes (`XBFTAB_SIZE` in `int13.c`), of which two entries leave 256 for
//!   names and secrets. Beyond that, `sanhook` fails with "Could not describe SAN devices". So data volumes are never
//!   described in BIOS, and a boot volume only as far as its sum fits.
//!
//! A try may still fail for lack of room, or because the firmware accepts no table at all. The next try then has a
//! limit ([`BootRequest::max_ibft_entries`]): one path less, at last none. A volume outside the table is hooked all the
//! same: the boot loader sees the drive, and the operating system finds the volume through its own configuration.

use secrecy::ExposeSecret;

use super::{BootPlan, BootRequest, BootVolume, Platform, SanUri};

/// Entries of the table that Linux accepts.
const MAX_ENTRIES: usize = 2;

/// Bytes for names and secrets in iPXE's BIOS table: 768 in all, less the fixed part of two entries.
const BIOS_STRING_BYTES: usize = 768 - 512;

/// Bytes reserved there for a host name that the requester did not report.
const DEFAULT_HOST_NAME_BYTES: usize = 32;

/// The drive number of the boot volume. Data volumes follow.
const FIRST_DRIVE: u8 = 0x80;

/// The most data volumes: drive number 0xff is reserved, since iPXE reads it as "the next free number".
const MAX_DATA: usize = 0xff - FIRST_DRIVE as usize - 1;

/// The `sanhook` commands for the volumes of one plan.
#[derive(Debug, Clone, PartialEq)]
pub struct SanTable<'a> {
    /// The boot volume first.
    pub hooks: Vec<Hook<'a>>,
    /// Portals that are tried last, and paths and volumes that had to be omitted, as sentences.
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
    /// Lays out a plan for the requester's firmware.
    pub fn new(plan: &'a BootPlan, request: &BootRequest) -> Self {
        let mut warnings = plan.portal_notes.clone();
        // Without a known platform the BIOS layout is used: it is the smaller one, and fits UEFI too.
        let platform = request.platform.unwrap_or(Platform::Bios);
        let max_entries = request.max_ibft_entries.unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
        let max_boot_paths = match platform {
            Platform::Uefi => max_entries,
            Platform::Bios => max_entries.min(count_bios_entries(plan, request.host_name_bytes)),
        };
        // A `sanhook` command describes either all of its paths or no path. Without description, all paths are used.
        let in_ibft = max_boot_paths > 0;
        let boot_paths = plan.boot.paths.len().min(if in_ibft { max_boot_paths } else { usize::MAX });
        if !in_ibft {
            warnings.push(format!(
                "the iBFT cannot hold volume {}: configure it in the operating system",
                plan.boot.id
            ));
        }
        if boot_paths < plan.boot.paths.len() {
            warnings.push(format!(
                "{} of the {} paths to volume {} are omitted: the iBFT has no room for more",
                plan.boot.paths.len() - boot_paths,
                plan.boot.paths.len(),
                plan.boot.id
            ));
        }
        if in_ibft && plan.boot.paths[..boot_paths].iter().any(|path| path.portal.is_ipv6()) {
            warnings.push(format!(
                "volume {} has an IPv6 portal, which the iBFT cannot hold: configure it in the operating system",
                plan.boot.id
            ));
        }
        let mut free_entries = match platform {
            Platform::Uefi => max_entries.saturating_sub(boot_paths),
            Platform::Bios => 0,
        };
        let mut hooks = vec![Hook {
            drive: FIRST_DRIVE,
            volume: &plan.boot,
            paths: &plan.boot.paths[..boot_paths],
            in_ibft,
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

    /// Counts the entries of the iBFT.
    pub fn count_entries(&self) -> usize {
        self.hooks.iter().filter(|hook| hook.in_ibft).map(|hook| hook.paths.len()).sum()
    }
}

/// Counts the paths of the boot volume that fit into the BIOS table.
///
/// The operating system may depend on the table. So a path that fits without the host name counts, as long as the
/// length of the host name is not known.
fn count_bios_entries(plan: &BootPlan, host_name_bytes: Option<usize>) -> usize {
    match host_name_bytes {
        // iPXE writes no string without a host name, and a terminated one otherwise (`ibft_set_string_setting`).
        Some(bytes) => count_entries_beside(plan, if bytes == 0 { 0 } else { bytes + 1 }),
        None => count_entries_beside(plan, DEFAULT_HOST_NAME_BYTES).max(count_entries_beside(plan, 0).min(1)),
    }
}

/// Counts the paths of the boot volume that fit into the BIOS table beside the host name.
fn count_entries_beside(plan: &BootPlan, host_name: usize) -> usize {
    let with_nul = |text: &str| text.len() + 1;
    let chap = plan
        .boot
        .chap
        .as_ref()
        .map_or(0, |chap| with_nul(&chap.username) + with_nul(chap.password.expose_secret()));
    let mut used = with_nul(plan.initiator.as_str()) + host_name;
    plan.boot
        .paths
        .iter()
        .take(MAX_ENTRIES)
        .take_while(|path| {
            used += with_nul(path.target.as_str()) + chap;
            used <= BIOS_STRING_BYTES
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Chap, Lun, Mac};
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
            once: None,
            portal_notes: Vec::new(),
        }
    }

    fn request(platform: Platform) -> BootRequest {
        BootRequest { platform: Some(platform), ..BootRequest::new(Mac::new([2, 0, 0, 0, 0, 1])) }
    }

    /// The request of a BIOS machine whose host name has this length.
    fn bios_request(host_name_bytes: usize) -> BootRequest {
        BootRequest { host_name_bytes: Some(host_name_bytes), ..request(Platform::Bios) }
    }

    /// (drive, paths, in_ibft) of every hook.
    fn hooks(plan: &BootPlan, platform: Platform) -> Vec<(u8, usize, bool)> {
        hooks_for(plan, &request(platform))
    }

    fn hooks_for(plan: &BootPlan, request: &BootRequest) -> Vec<(u8, usize, bool)> {
        SanTable::new(plan, request).hooks.iter().map(|h| (h.drive, h.paths.len(), h.in_ibft)).collect()
    }

    const UUID: &str = "2f1dcbe7-6e5a-4b2c-8e0c-000000000001";

    #[test]
    fn a_single_cinder_volume_with_chap_fits_everywhere() {
        let plan = plan(volume(UUID, 1, true), vec![]);
        assert_eq!(hooks(&plan, Platform::Bios), [(0x80, 1, true)]);
        assert_eq!(hooks(&plan, Platform::Uefi), [(0x80, 1, true)]);
        assert_eq!(SanTable::new(&plan, &request(Platform::Bios)).warnings, Vec::<String>::new());
    }

    #[test]
    fn uses_a_second_path_if_the_table_has_room() {
        let long = plan(volume(UUID, 2, true), vec![]);
        assert_eq!(hooks(&long, Platform::Bios), [(0x80, 1, true)]);
        assert_eq!(SanTable::new(&long, &request(Platform::Bios)).warnings.len(), 1);
        assert_eq!(hooks(&long, Platform::Uefi), [(0x80, 2, true)]);
        let short = plan(volume("a", 2, false), vec![]);
        assert_eq!(hooks(&short, Platform::Bios), [(0x80, 2, true)]);
    }

    /// Two paths without CHAP take 55 + 1 bytes for the initiator name and (33 + 1) * 2 for the target names.
    #[test]
    fn host_name_counts_in_the_bios_table() {
        let mut plan = plan(volume("", 2, false), vec![]);
        plan.initiator = format!("iqn.2017-08.org.openstack.{}", "i".repeat(29)).parse().expect("a name");
        let room = BIOS_STRING_BYTES - 56 - 68;
        assert_eq!(hooks_for(&plan, &bios_request(room - 1)), [(0x80, 2, true)]);
        assert_eq!(hooks_for(&plan, &bios_request(room)), [(0x80, 1, true)]);
        assert_eq!(hooks_for(&plan, &bios_request(room + 34 - 1)), [(0x80, 1, true)]);
        // Without description, the boot loader may use all paths.
        assert_eq!(hooks_for(&plan, &bios_request(room + 34)), [(0x80, 2, false)]);
        assert_eq!(
            SanTable::new(&plan, &bios_request(room + 34)).warnings,
            ["the iBFT cannot hold volume : configure it in the operating system"]
        );
        let uefi = BootRequest { host_name_bytes: Some(255), ..request(Platform::Uefi) };
        assert_eq!(hooks_for(&plan, &uefi), [(0x80, 2, true)]);
    }

    /// 256 bytes: 63 + 1 for the initiator name, 33 + 36 + 1 for the target name, 40 + 1 and 80 + 1 for CHAP.
    #[test]
    fn a_machine_without_a_host_name_has_all_the_room() {
        let mut plan = plan(volume(UUID, 1, true), vec![]);
        plan.boot.chap = Some(Chap { username: "u".repeat(40), password: "p".repeat(80).into() });
        plan.initiator = format!("iqn.2017-08.org.openstack.{}", "i".repeat(37)).parse().expect("a name");
        assert_eq!(hooks_for(&plan, &bios_request(0)), [(0x80, 1, true)]);
        assert_eq!(hooks_for(&plan, &bios_request(1)), [(0x80, 1, false)]);
        // The length of the host name is not known: the table may have room.
        assert_eq!(hooks(&plan, Platform::Bios), [(0x80, 1, true)]);
        plan.initiator = format!("{}i", plan.initiator).parse().expect("a name");
        assert_eq!(hooks(&plan, Platform::Bios), [(0x80, 1, false)]);
    }

    #[test]
    fn a_failed_try_limits_the_entries_of_the_next_one() {
        let plan = plan(volume("a", 2, false), vec![volume("b", 1, false)]);
        for platform in [Platform::Bios, Platform::Uefi] {
            let limited = |limit| BootRequest { max_ibft_entries: Some(limit), ..request(platform) };
            let (all, none) = ((0x81, 1, false), [(0x80, 2, false), (0x81, 1, false)]);
            assert_eq!(hooks_for(&plan, &limited(9)), [(0x80, 2, true), all]);
            assert_eq!(hooks_for(&plan, &limited(1)), [(0x80, 1, true), all]);
            assert_eq!(hooks_for(&plan, &limited(0)), none);
            let table = |limit| SanTable::new(&plan, &limited(limit)).count_entries();
            assert_eq!([table(9), table(1), table(0)], [2, 1, 0]);
        }
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
        assert_eq!(SanTable::new(&plan, &request(Platform::Uefi)).warnings.len(), 1);
    }

    #[test]
    fn warns_about_more_volumes_than_drive_numbers() {
        let plan = plan(volume("a", 1, false), vec![volume("b", 1, false); 130]);
        let table = SanTable::new(&plan, &request(Platform::Uefi));
        assert_eq!(table.hooks.last().map(|hook| hook.drive), Some(0xfe));
        assert_eq!(table.warnings, ["4 data volumes are omitted: no drive numbers are left"]);
    }
}
