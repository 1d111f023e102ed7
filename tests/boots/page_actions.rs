//! The actions on a node and the pictures of boots in a real browser, with a scripted BMC.
//!
//! Scripts of the page are off while buttons and forms are used.

use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::fake_bmc::FakeBmc;
use crate::lab;
use crate::lab::browser::{Browser, ColorScheme};
use crate::lab::dhcp::Rom;
use crate::lab::network::SERVER;
use crate::lab::target::Export;
use crate::lab::volume::Volume;
use crate::site::{INITIATOR, Site};

/// How soon the page shows a change.
const PAGE_LIMIT: Duration = Duration::from_secs(60);
/// Machines of the storm. Their requests come from one address, and stay below its rate limit.
const MACHINES: u32 = 8;

#[test]
fn buttons_and_forms_work_without_script() -> Result<()> {
    lab::run(|lab| {
        let site = Site::open(lab, Rom::FetchesScript, "[boot]\nverify_mac = \"off\"\n")?;
        let runtime = Runtime::new()?;
        let bmc = runtime.block_on(async { FakeBmc::start() });
        let export = Export::new(&Volume::data(lab, "alpha")?, INITIATOR);
        let node = site.register(&[&export])?;
        let patch = json!([
            {"op": "replace", "path": "/driver", "value": "redfish"},
            {"op": "replace", "path": "/driver_info", "value": bmc.driver_info()},
        ]);
        site.api.send(&Method::PATCH, &format!("nodes/{node}"), &patch)?;

        let browser = Browser::start(lab)?;
        browser.open("/ui/nodes/node-1")?;
        browser.wait_for_text("#actions", "Boot", PAGE_LIMIT)?;
        browser.check_accessibility()?;
        browser.set_scripts(false)?;
        let reload_until = |text: &str| -> Result<()> {
            let deadline = std::time::Instant::now() + PAGE_LIMIT;
            loop {
                browser.open("/ui/nodes/node-1")?;
                let page = browser.text("#actions")?.split_whitespace().collect::<Vec<_>>().join(" ");
                if page.contains(text) {
                    return Ok(());
                }
                ensure!(std::time::Instant::now() < deadline, "{text:?} is not in {page}");
            }
        };
        reload_until("Power unknown")?;
        browser.click("[formaction$='/power/on']")?;
        reload_until("Power on Boot Reboot")?;
        ensure!(bmc.script(|state| state.is_on), "the machine is off");
        browser.click("[href$='/power/off']")?;
        browser.wait_for_text("h1", "Power off: node-1", PAGE_LIMIT)?;
        browser.click("#soft")?;
        browser.click("form.form button")?;
        reload_until("Power off Boot Power on")?;
        ensure!(
            bmc.take_commands().iter().any(|command| command.contains("GracefulShutdown")),
            "a hard power off"
        );

        browser.click("[href$='/maintenance']")?;
        browser.fill("#reason", "fan 3 is broken")?;
        browser.click("form.form button")?;
        browser.wait_for_text("#actions", "fan 3 is broken", PAGE_LIMIT)?;
        browser.click("[formaction$='/maintenance/clear']")?;
        reload_until("Maintenance off Set")?;

        browser.click(".links a")?;
        browser.fill("#volume", "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11")?;
        browser.click("form.form button")?;
        let refusal = browser.wait_for_text(".alert", "storage interface is external", PAGE_LIMIT)?;
        ensure!(!refusal.contains("0b1d4a52"), "{refusal}");
        browser.set_scripts(true)?;
        browser.open(&format!("/ui/nodes/{node}/volumes"))?;
        browser.check_accessibility()?;
        browser.open(&format!("/ui/nodes/{node}/provision/undeploy"))?;
        browser.check_accessibility()?;
        browser.set_size(390, 760)?;
        browser.save_screenshot("undeploy-phone")?;
        browser.set_size(1200, 900)?;
        browser.open(&format!("/ui/nodes/{node}/delete"))?;
        browser.check_accessibility()?;
        browser.save_screenshot("delete")?;
        browser.click("form.form button")?;
        browser.wait_for_text("h1", "Machines", PAGE_LIMIT)?;
        ensure!(site.api.get(&format!("nodes/{node}")).is_err(), "the node was not deleted");
        Ok(())
    })
}

#[test]
fn pictures_show_the_boots() -> Result<()> {
    lab::run(|lab| {
        let site = Site::open(lab, Rom::FetchesScript, "[boot]\nverify_mac = \"off\"\n")?;
        let browser = Browser::start(lab)?;
        let export = Export::new(&Volume::data(lab, "alpha")?, INITIATOR);
        let listener = format!("http://{SERVER}:8080");
        for n in 0..MACHINES {
            let mac = format!("52:54:00:00:00:{n:02x}");
            let node = site.api.create_node(&format!("web-{n}"))?;
            site.api.create_port(&node, &mac)?;
            site.api.create_connector(&node, &format!("{INITIATOR}{n}"))?;
            site.api.create_target(&node, 0, &export, None)?;
        }
        // The first machine has booted before. Now a third of the machines is up, and the others are on their way. The
        // reports differ in their try: equal ones within a second are one report.
        for (attempt, machines) in [(1, 1), (2, MACHINES)] {
            for n in 0..machines {
                let boot = format!("{listener}/boot/52:54:00:00:00:{n:02x}");
                browser.open_url(&format!("{boot}?platform=efi&try=1&journey={attempt}{n:015x}"))?;
                browser.open_url(&format!("{boot}/event?try={attempt}&step=hooked"))?;
                if n % 3 == 0 {
                    browser.open_url(&format!("{boot}/event?try={attempt}&step=up"))?;
                }
            }
        }
        browser.open("/ui/")?;
        browser.wait_for_text("#boots", "Booting now", PAGE_LIMIT)?;
        let boots = browser.wait_for_text("#boots", "4 up", PAGE_LIMIT)?;
        ensure!(boots.contains("9 boots") && boots.contains("5 under way"), "{boots}");
        browser.check_accessibility()?;
        browser.set_size(1200, 760)?;
        browser.save_screenshot("boots")?;
        browser.set_size(390, 760)?;
        browser.set_color_scheme(ColorScheme::Dark)?;
        browser.save_screenshot("boots-phone-dark")?;
        browser.set_color_scheme(ColorScheme::Light)?;
        browser.open("/ui/nodes/web-0")?;
        browser.wait_for_text("table.waterfall", "Loader to up", PAGE_LIMIT)?;
        browser.check_accessibility()?;
        browser.save_screenshot("waterfall")
    })
}
