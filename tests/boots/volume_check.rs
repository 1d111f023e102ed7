//! `volboot check` of crafted volumes on a real target.
//!
//! The reasons for refused logins are compared with a machine's errors in [`crate::verdicts`], where a machine meets each.

use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::Instant;
use volboot::iscsi::{IscsiSession, Isid, LoginParameters};

use crate::lab::daemon::API;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::SERVER;
use crate::lab::target::{Export, LUN, portal};
use crate::lab::volume::{Recipe, Volume};
use crate::lab::{self, Lab};
use crate::site::{BOOT_LIMIT, INITIATOR, Site, start_storage};
use crate::verdicts::wait_for_verdict;

/// The loader's path of a distribution.
const DEBIAN: &str = r"\EFI\debian\grubx64.efi";

/// Runs `volboot check` on a node.
pub(crate) fn check(node: &str, options: &[&str]) -> Result<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_volboot"));
    command.args(["check", node]).args(options).env("VOLBOOT_API", format!("http://{API}"));
    command.output().context("cannot run volboot check")
}

/// The properties of a volume target with changes; `null` removes a key.
fn properties(export: &Export, changes: &Value) -> Value {
    let mut properties = json!({
        "target_portal": portal(), "target_iqn": export.iqn, "target_lun": LUN, "auth_method": "CHAP",
        "auth_username": export.account.username, "auth_password": export.account.password,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        properties[key] = value.clone();
    }
    properties
}

/// A check with its expected result.
struct Case<'a> {
    name: &'a str,
    export: &'a Export,
    changes: Value,
    initiator: &'a str,
    /// BIOS, UEFI x86_64, UEFI arm64.
    boots: [Option<bool>; 3],
    /// Parts of the findings, logins and verdicts.
    expected: &'a [&'a str],
}

fn golden_ext4(name: &str) -> Result<Vec<u8>> {
    let path = format!("{}/tests/golden/volumes/{name}.ext4.gz", env!("CARGO_MANIFEST_DIR"));
    let mut image = Vec::new();
    flate2::read::GzDecoder::new(File::open(path)?).read_to_end(&mut image)?;
    Ok(image)
}

fn uefi_volume(lab: &Lab, name: &str, loader: Option<&str>) -> Result<Volume> {
    let recipe = Recipe::new(name, Firmware::Uefi);
    let loader = loader.unwrap_or(recipe.loader);
    Volume::bootable(lab, &Recipe { loader, ..recipe })
}

#[test]
#[allow(clippy::too_many_lines, reason = "one row per volume")]
fn crafted_volumes_get_the_right_verdict() -> Result<()> {
    lab::run(|lab| {
        let good = uefi_volume(lab, "good", None)?;
        let bios = Volume::bootable(lab, &Recipe::new("bios", Firmware::Bios))?;
        let debian = uefi_volume(lab, "debian", Some(DEBIAN))?;
        let with_iscsi = uefi_volume(lab, "iscsi", None)?;
        with_iscsi.add_partition(&golden_ext4("iscsi-zstd")?)?;
        let without_iscsi = uefi_volume(lab, "plain", None)?;
        without_iscsi.add_partition(&golden_ext4("plain-xz")?)?;
        let mut no_code = vec![0; 512];
        no_code[510..].copy_from_slice(&[0x55, 0xaa]);
        let no_code = Volume::with_content(lab, "no-code", &no_code)?;
        let empty = Volume::with_content(lab, "empty", &[])?;
        let luks = Volume::with_content(lab, "luks", b"LUKS\xba\xbe\x00\x02")?;
        let large = uefi_volume(lab, "large-blocks", None)?;
        let data = Volume::data(lab, "no-esp")?;
        let volumes =
            [&good, &bios, &debian, &with_iscsi, &without_iscsi, &no_code, &empty, &luks, &large, &data];
        let mut exports: Vec<_> = volumes.iter().map(|volume| Export::new(volume, INITIATOR)).collect();
        exports[8].block_size = 4096;
        let exports: Vec<_> = exports.iter().collect();
        let _storage = start_storage(lab, &exports)?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let (yes, no) = (Some(true), Some(false));
        let case = |name, export: usize, boots, expected| Case {
            name,
            export: exports[export],
            changes: json!({}),
            initiator: INITIATOR,
            boots,
            expected,
        };
        let dead = format!("{SERVER}:3261");
        let cases = [
            case(
                "good",
                0,
                [no, yes, no],
                &[r"boots on UEFI x86_64, by \EFI\BOOT\BOOTX64.EFI", "not on BIOS: no boot code"][..],
            ),
            case(
                "bios",
                1,
                [yes, no, no],
                &["boots on BIOS, by the boot code of GRUB", "no EFI system partition"],
            ),
            case("debian", 2, [no, no, no], &[r"Set uefi_loader to \EFI\debian\grubx64.efi"]),
            case("iscsi", 3, [no, yes, no], &[]),
            case(
                "plain",
                4,
                [no, no, no],
                &["no iSCSI in the initramfs /boot/initrd.img-6.1.0-32-amd64", "Install open-iscsi"],
            ),
            case("no-code", 5, [no, no, no], &["not on BIOS: no boot code"]),
            case(
                "empty",
                6,
                [no, no, no],
                &["the first sector has no boot signature", "boots on no firmware"],
            ),
            case("luks", 7, [no, no, no], &["the volume is encrypted (LUKS)"]),
            case(
                "large-blocks",
                8,
                [no, no, no],
                &["the GPT was written for blocks of 512 bytes", "needs blocks of 512 bytes"],
            ),
            case("no-esp", 9, [no, no, no], &["not on UEFI x86_64: no boot loader"]),
            Case {
                changes: json!({"auth_password": "a wrong password"}),
                ..case("wrong-chap", 0, [no, no, no], &["target rejected CHAP credentials"])
            },
            Case {
                initiator: "iqn.2026-01.lab.volboot:other",
                ..case(
                    "acl",
                    0,
                    [no, no, no],
                    &["target does not know the volume's IQN", "iqn connector", "access list"],
                )
            },
            Case {
                changes: json!({"target_lun": 7}),
                ..case("wrong-lun", 0, [no, no, no], &["the target has no disk with this LUN"])
            },
            Case {
                changes: json!({"target_portal": null, "target_portals": [dead, portal()]}),
                ..case("one-portal-dead", 0, [no, yes, no], &["storage refused the TCP connection"])
            },
            Case {
                changes: json!({"target_portal": dead}),
                ..case(
                    "all-portals-dead",
                    0,
                    [None; 3],
                    &["unsure on BIOS: storage refused the TCP connection"],
                )
            },
        ];
        for case in &cases {
            let node = run_case(&site, case).with_context(|| format!("case {}", case.name))?;
            if case.name == "wrong-chap" {
                // A refused login is not repeated, and the report says so.
                let output = check(case.name, &["--json"])?;
                ensure!(String::from_utf8_lossy(&output.stdout).contains("not repeated"), "{output:?}");
            }
            site.api.send(&Method::DELETE, &format!("nodes/{node}"), &json!({}))?;
        }
        // The validation checks nothing, but it knows the last check.
        let _node = run_case(&site, &case("good", 0, [no, yes, no], &[]))?;
        let report = site.api.get("nodes/good/validate")?;
        let reason = report["storage"]["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("volume check 0 min ago: not on BIOS: no boot code"), "{report}");
        Ok(())
    })
}

/// Checks a volume; returns its node.
fn run_case(site: &Site, case: &Case<'_>) -> Result<String> {
    let node = site.api.create_node(case.name)?;
    site.api.create_connector(&node, case.initiator)?;
    let target = properties(case.export, &case.changes);
    site.api.create_target_with(&node, case.name, &target)?;
    let output = check(case.name, &["--json"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).with_context(|| format!("{output:?}"))?;
    let volume = &report["volumes"][0];
    let boots = &volume["boots"];
    let expected = json!({"bios": case.boots[0], "uefi_x86_64": case.boots[1], "uefi_arm64": case.boots[2]});
    ensure!(*boots == expected, "{report:#}");
    for part in case.expected {
        // JSON doubles each backslash.
        ensure!(text.contains(&part.replace('\\', r"\\")), "\"{part}\" is not in {report:#}");
    }
    let is_bootable = case.boots.contains(&Some(true));
    ensure!(output.status.code() == Some(i32::from(!is_bootable)), "{}", output.status);
    ensure!(volume["volume_id"] == case.name && volume["portals"][0]["portal"].is_string(), "{report:#}");
    ensure!(!text.contains(&case.export.account.password), "the report has the secret");
    Ok(node)
}

#[test]
fn a_machine_boots_by_the_loader_that_the_check_applies() -> Result<()> {
    lab::run(|lab| {
        let volume = uefi_volume(lab, "debian", Some(DEBIAN))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[&export])?;
        ensure!(check(&node, &[])?.status.code() == Some(1));
        let applied = check(&node, &["--apply"])?;
        let text = String::from_utf8_lossy(&applied.stdout);
        ensure!(
            applied.status.success() && text.contains(&format!("boots on UEFI x86_64, by {DEBIAN}")),
            "{text}"
        );
        let mut machine = MachineSpec::new(Firmware::Uefi, crate::site::MAC).power_on(lab)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn a_bios_machine_reports_what_the_check_says_of_an_empty_volume() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::with_content(lab, "empty", &[])?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[&export])?;
        let report = site.api.get(&format!("nodes/{node}/volume-check"))?;
        let reason = "volume has no boot code for BIOS firmware";
        ensure!(report["verdict"][0].as_str().is_some_and(|line| line.contains(reason)), "{report:#}");
        let _machine = MachineSpec::new(Firmware::Bios, crate::site::MAC).power_on(lab)?;
        wait_for_verdict(&site, &format!("failed: starting from the volume: {reason} [0x1d8520"))?;
        Ok(())
    })
}

/// The long form: `VOLBOOT_CHECKS=1000`.
#[test]
fn a_session_of_the_machine_survives_checks() -> Result<()> {
    let checks: usize = std::env::var("VOLBOOT_CHECKS").map_or(Ok(20), |text| text.parse())?;
    lab::run(move |lab| {
        let volume = uefi_volume(lab, "alpha", None)?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        let node = site.register(&[&export])?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let lun = [0, u8::try_from(LUN)?, 0, 0, 0, 0, 0, 0];
        let mut session = runtime.block_on(log_in(&export))?;
        for _ in 0..checks {
            let report = site.api.get(&format!("nodes/{node}/volume-check"))?;
            ensure!(report["volumes"][0]["portals"][0]["login"] == "ok", "{report:#}");
            let block = runtime.block_on(async {
                session.set_deadline(Instant::now() + BOOT_LIMIT);
                session.read(lun, 512, 0, 1).await
            })?;
            ensure!(block[510..] == [0x55, 0xaa]);
        }
        runtime.block_on(session.log_out(Duration::from_secs(1)));
        Ok(())
    })
}

/// A session of the machine: the same initiator name, and an ISID that stays.
async fn log_in(export: &Export) -> Result<IscsiSession> {
    let chap = Some((export.account.username.clone(), export.account.password.clone().into()));
    let parameters = LoginParameters { initiator: INITIATOR.to_owned(), target: export.iqn.clone(), chap };
    let stream = TcpStream::connect(portal().parse::<SocketAddr>()?).await?;
    Ok(IscsiSession::log_in(stream, parameters, Isid::from_random([0; 5]), Instant::now() + BOOT_LIMIT)
        .await?)
}
