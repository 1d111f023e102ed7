//! The web pages in a real browser, while real machines boot: live updates, verdicts, enrollment, cross-site attacks.
//!
//! Every page must pass axe-core's accessibility rules. Screenshots go to `target/screenshots`, and the README has
//! copies.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::lab;
use crate::lab::browser::{Browser, ColorScheme, REBOUND_HOST};
use crate::lab::daemon::API;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Firmware, MachineSpec};
use crate::lab::network::SERVER;
use crate::lab::target::{Export, LUN, portal};
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, start_storage};

/// How soon the page shows an event.
const PAGE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_boot_appears_live_on_the_machine_s_page() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::LoadsUndionly, "")?;
        site.register(&[&export])?;

        let browser = Browser::start(lab)?;
        browser.open("/ui/nodes/node-1")?;
        browser.wait_for_text("#verdict", "This machine has not been seen yet.", PAGE_LIMIT)?;
        browser.wait_for_text("#live", "Live.", PAGE_LIMIT)?;
        // A reload would reset this variable.
        browser.run_script("window.notReloaded = true")?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        browser.wait_for_text("#timeline", "read undionly.kpxe over TFTP", BOOT_LIMIT)?;
        browser.wait_for_text("#timeline", "read /boot.ipxe", BOOT_LIMIT)?;
        browser.wait_for_text("#timeline", "boot script sent", BOOT_LIMIT)?;
        browser.wait_for_text("#timeline", "volumes hooked: login succeeded, disks found", BOOT_LIMIT)?;
        browser.wait_for_text("#verdict", "volume hooked after ", PAGE_LIMIT)?;
        ensure!(
            browser.run_script("return window.notReloaded === true")? == json!(true),
            "the page was reloaded"
        );
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;

        browser.run_script("document.querySelector('pre').closest('details').open = true")?;
        browser.check_accessibility()?;
        let text = browser.text("main")?;
        ensure!(text.contains("set password:hex ******"), "no script: {text}");
        ensure!(!text.contains(&export.account.password), "the page reveals the secret: {text}");
        browser.run_script("document.querySelector('pre').closest('details').open = false")?;
        browser.set_size(1200, 760)?;
        browser.save_screenshot("machine")?;
        browser.set_size(390, 760)?;
        browser.set_color_scheme(ColorScheme::Dark)?;
        browser.save_screenshot("machine-phone-dark")
    })
}

#[test]
fn a_failed_boot_shows_its_cause() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;
        let browser = Browser::start(lab)?;
        browser.open("/ui/")?;
        browser.wait_for_text("#machines", "No machines yet.", PAGE_LIMIT)?;
        browser.wait_for_text("#live", "Live.", PAGE_LIMIT)?;

        let _machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        let sentence = format!("failed: connecting to volume {}: ", export.iqn);
        browser.wait_for_text("#machines", &sentence, BOOT_LIMIT)?;
        browser.check_accessibility()?;
        browser.click("#machines th a")?;
        let verdict = browser.wait_for_text("#verdict", &sentence, PAGE_LIMIT)?;
        ensure!(verdict.contains("refused"), "no cause: {verdict}");
        browser.check_accessibility()?;
        browser.save_screenshot("failing")
    })
}

#[test]
fn an_unknown_machine_is_enrolled_on_its_page_and_boots() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = start_storage(lab, &[&export])?;
        let _site = Site::open(lab, Rom::FetchesScript, "[boot]\nunknown = \"retry\"\n")?;
        let browser = Browser::start(lab)?;
        browser.open("/ui/")?;

        let mut machine = MachineSpec::new(Firmware::Bios, MAC).power_on(lab)?;
        browser.wait_for_text("#machines", "unknown", BOOT_LIMIT)?;
        browser.click("a.action")?;
        browser.wait_for_text("#enroll", "Enroll this machine", PAGE_LIMIT)?;
        browser.check_accessibility()?;
        browser.fill("#name", "web-1")?;
        browser.fill("#iqn", INITIATOR)?;
        browser.fill("#volume", "alpha")?;
        browser.click("form.form button")?;
        browser.wait_for_text(
            ".errors",
            "Enter the UUID of a Cinder volume, or a target such as",
            PAGE_LIMIT,
        )?;
        browser.check_accessibility()?;
        browser.fill("#volume", &format!("iscsi:{}::3260:{LUN}:{}", SERVER, export.iqn))?;
        browser.fill("#user", &export.account.username)?;
        browser.fill("#secret", &export.account.password)?;
        browser.save_screenshot("enroll")?;
        browser.click("form.form button")?;
        browser.wait_for_text("h1", "web-1", PAGE_LIMIT)?;
        browser.wait_for_text("main", &portal(), PAGE_LIMIT)?;

        browser.wait_for_text("#verdict", "volume hooked after ", BOOT_LIMIT)?;
        machine.wait_for(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn the_list_shows_every_state_and_cross_site_attacks_fail() -> Result<()> {
    lab::run(|lab| {
        let site = Site::open(lab, Rom::FetchesScript, "[boot]\nverify_mac = \"off\"\n")?;
        let browser = Browser::start(lab)?;
        let boot_url = format!("http://{SERVER}:8080");
        let export = Export::new(&Volume::data(lab, "alpha")?, INITIATOR);
        // Each machine sends a boot request as iPXE does, and most report a step.
        for (n, report) in [
            (1, ""),
            (2, ""),
            (3, "hook-0&rc=0x410d613b"),
            (4, ""),
            (5, "hooked"),
            (6, "up"),
            (7, "hook-0&rc=0x0f0a6039"),
            (8, ""),
            (9, "hooked"),
        ] {
            let mac = format!("52:54:00:00:00:0{n}");
            if n > 2 {
                let node = site.api.create_node(&format!("web-{n}"))?;
                site.api.create_port(&node, &mac)?;
                site.api.create_connector(&node, &format!("{INITIATOR}{n}"))?;
                site.api.create_target(&node, 0, &export, None)?;
                if n == 4 {
                    site.api.set_maintenance(&node, "fan 3 is broken")?;
                }
            }
            browser.open_url(&format!("{boot_url}/boot/{mac}?platform=efi"))?;
            if !report.is_empty() {
                browser.open_url(&format!("{boot_url}/boot/{mac}/event?try=1&step={report}"))?;
            }
        }
        for journey in 1..=6 {
            let path = format!("boot/52:54:00:00:00:08?platform=efi&try=1&journey=abcdef{journey}");
            browser.open_url(&format!("{boot_url}/{path}"))?;
        }
        browser.open("/ui/")?;
        browser.wait_for_text("#machines", "fan 3 is broken", PAGE_LIMIT)?;
        browser.wait_for_text("tr.looping", "web-8", PAGE_LIMIT)?;
        browser.wait_for_text(
            ".alert",
            "1 machine in a boot loop: boot sessions restart without a hooked volume.",
            PAGE_LIMIT,
        )?;
        browser.check_accessibility()?;
        browser.set_size(1200, 760)?;
        browser.save_screenshot("machines")?;
        browser.set_color_scheme(ColorScheme::Dark)?;
        browser.save_screenshot("machines-dark")?;
        browser.set_color_scheme(ColorScheme::Light)?;
        browser.fill("#q", "maintenance")?;
        browser.click(".search button")?;
        browser.wait_for_text("caption", "1 machine", PAGE_LIMIT)?;
        for (path, heading) in [("/ui/appliance", "Appliance"), ("/ui/nothing", "Not found")] {
            browser.open(path)?;
            browser.wait_for_text("h1", heading, PAGE_LIMIT)?;
            browser.check_accessibility()?;
        }
        browser.open("/ui/appliance")?;
        browser.save_screenshot("appliance")?;

        // DNS rebinding: the attacker's host name resolves to our address, so both share an origin. The CSP is off,
        // because the attacker's page was loaded from another server before.
        browser.bypass_csp()?;
        browser.open_url(&format!("http://{REBOUND_HOST}:6385/ui/"))?;
        browser.wait_for_text("body", "is not a trusted host name", PAGE_LIMIT)?;
        let read = browser.run_async_script(
            "const done = arguments[0];
             fetch('/v1/nodes', {headers: {'User-Agent': 'curl/7.88.1', 'Accept-Language': ''}})
                 .then(response => response.text()).then(done, error => done('' + error));",
        )?;
        ensure!(
            read.as_str().is_some_and(|text| text.contains("is not a trusted host name")),
            "the page read {read}"
        );
        // CSRF: a page of another site sends a request that needs no CORS preflight.
        browser.open_url(&format!("{boot_url}/healthz"))?;
        let sent = browser.run_async_script(&format!(
            "const done = arguments[0];
             fetch('http://{API}/v1/nodes', {{method: 'POST', mode: 'no-cors', body: '{{\"driver\": \"fake-hardware\", \"name\": \"evil\"}}'}})
                 .then(response => done(response.type), error => done('' + error));",
        ))?;
        browser.open("/ui/?q=evil")?;
        browser.wait_for_text("#machines", "No machine matches.", PAGE_LIMIT)?;
        let text = browser.text("#machines")?;
        ensure!(!text.contains("registered"), "a cross-site request created a node ({sent}): {text}");
        Ok(())
    })
}
