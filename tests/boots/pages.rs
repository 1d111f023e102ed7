//! The pages in a real browser, while real machines boot: what happens is seen as it happens, what fails is told in
//! words, and a machine that nobody knew is enrolled by a click. No page may have a fault of accessibility.
//!
//! The pictures go to `target/screenshots`; those in the README are copies.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::lab;
use crate::lab::browser::{Browser, Colours, STRANGE_NAME};
use crate::lab::daemon::API;
use crate::lab::dhcp::Rom;
use crate::lab::machine::{Build, Firmware};
use crate::lab::network::SERVER;
use crate::lab::target::{Export, LUN, portal};
use crate::lab::volume::{Recipe, Volume};
use crate::site::{BOOT_LIMIT, INITIATOR, MAC, Site, storage};

/// What is in the log is on the page so soon.
const PAGE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_machine_boots_before_one_s_eyes() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        let site = Site::open(lab, Rom::LoadsUndionly, "")?;
        site.register(&[&export])?;

        let browser = Browser::start(lab)?;
        browser.open("/ui/nodes/node-1")?;
        browser.shows("#verdict", "Nothing was heard of this machine yet.", PAGE_LIMIT)?;
        browser.shows("#live", "Live.", PAGE_LIMIT)?;
        // A page that is loaded anew forgets this.
        browser.run("window.same = true")?;

        let mut machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;
        browser.shows("#timeline", "read undionly.kpxe over TFTP", BOOT_LIMIT)?;
        browser.shows("#timeline", "read /boot.ipxe", BOOT_LIMIT)?;
        browser.shows("#timeline", "it was sent", BOOT_LIMIT)?;
        browser.shows("#timeline", "hooked its volumes: it has logged in and found its disks", BOOT_LIMIT)?;
        browser.shows("#verdict", "hooked its volume, ", PAGE_LIMIT)?;
        ensure!(browser.run("return window.same === true")? == json!(true), "the page was loaded anew");
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;

        browser.run("document.querySelector('pre').closest('details').open = true")?;
        browser.is_accessible()?;
        let shown = browser.text("main")?;
        ensure!(shown.contains("set password:hex ******"), "no script: {shown}");
        ensure!(!shown.contains(&export.account.password), "the secret is shown: {shown}");
        browser.run("document.querySelector('pre').closest('details').open = false")?;
        browser.set_size(1200, 760)?;
        browser.photograph("machine")?;
        browser.set_size(390, 760)?;
        browser.set_colours(Colours::Dark)?;
        browser.photograph("machine-phone-dark")
    })
}

#[test]
fn a_machine_that_fails_is_told_of_in_words() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let site = Site::open(lab, Rom::FetchesScript, "")?;
        site.register(&[&export])?;
        let browser = Browser::start(lab)?;
        browser.open("/ui/")?;
        browser.shows("#machines", "No machine was heard of yet.", PAGE_LIMIT)?;
        browser.shows("#live", "Live.", PAGE_LIMIT)?;

        let _machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;
        let sentence = format!("stopped at connecting to volume {}, because", export.iqn);
        browser.shows("#machines", &sentence, BOOT_LIMIT)?;
        browser.is_accessible()?;
        browser.click("#machines th a")?;
        let told = browser.shows("#verdict", &sentence, PAGE_LIMIT)?;
        ensure!(told.contains("nobody listens") || told.contains("refused"), "not in words: {told}");
        browser.is_accessible()?;
        browser.photograph("failing")
    })
}

#[test]
fn a_machine_that_nobody_knew_is_enrolled_by_a_click_and_boots() -> Result<()> {
    lab::run(|lab| {
        let volume = Volume::bootable(lab, &Recipe::new("alpha", Firmware::Bios))?;
        let export = Export::new(&volume, INITIATOR);
        let _storage = storage(lab, &[&export])?;
        let _site = Site::open(lab, Rom::FetchesScript, "[boot]\nunknown = \"retry\"\n")?;
        let browser = Browser::start(lab)?;
        browser.open("/ui/")?;

        let mut machine = Build::bare(Firmware::Bios, MAC).power_on(lab)?;
        browser.shows("#machines", "unknown", BOOT_LIMIT)?;
        browser.click("a.act")?;
        browser.shows("#enrol", "Enrol this machine", PAGE_LIMIT)?;
        browser.is_accessible()?;
        browser.write("#name", "web-1")?;
        browser.write("#iqn", INITIATOR)?;
        browser.write("#volume", "alpha")?;
        browser.click("form.enrol button")?;
        browser.shows(
            ".faults",
            "Expected the UUID of a volume in Cinder, or a target such as",
            PAGE_LIMIT,
        )?;
        browser.is_accessible()?;
        browser.write("#volume", &format!("iscsi:{}::3260:{LUN}:{}", SERVER, export.iqn))?;
        browser.write("#user", &export.account.username)?;
        browser.write("#secret", &export.account.password)?;
        browser.photograph("enrol")?;
        browser.click("form.enrol button")?;
        browser.shows("h1", "web-1", PAGE_LIMIT)?;
        browser.shows("main", &portal(), PAGE_LIMIT)?;

        browser.shows("#verdict", "hooked its volume, ", BOOT_LIMIT)?;
        machine.shows(&[&volume.boot_line()], BOOT_LIMIT)?;
        Ok(())
    })
}

#[test]
fn many_machines_are_told_apart_and_strange_pages_learn_nothing() -> Result<()> {
    lab::run(|lab| {
        let site = Site::open(lab, Rom::FetchesScript, "[boot]\nverify_mac = \"off\"\n")?;
        let browser = Browser::start(lab)?;
        let door = format!("http://{SERVER}:8080");
        let export = Export::new(&Volume::data(lab, "alpha")?, INITIATOR);
        // Each asks as iPXE would, and says what became of it.
        for (n, said) in [
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
            browser.open_at(&format!("{door}/boot/{mac}?platform=efi"))?;
            if !said.is_empty() {
                browser.open_at(&format!("{door}/boot/{mac}/event?try=1&step={said}"))?;
            }
        }
        for journey in 1..=6 {
            let path = format!("boot/52:54:00:00:00:08?platform=efi&try=1&journey=abcdef{journey}");
            browser.open_at(&format!("{door}/{path}"))?;
        }
        browser.open("/ui/")?;
        browser.shows("#machines", "is in maintenance: fan 3 is broken", PAGE_LIMIT)?;
        browser.shows("tr.looping", "web-8", PAGE_LIMIT)?;
        browser.shows(
            ".alarm",
            "1 machine begins again and again without ever hooking a volume.",
            PAGE_LIMIT,
        )?;
        browser.is_accessible()?;
        browser.set_size(1200, 760)?;
        browser.photograph("machines")?;
        browser.set_colours(Colours::Dark)?;
        browser.photograph("machines-dark")?;
        browser.set_colours(Colours::Light)?;
        browser.write("#q", "maintenance")?;
        browser.click(".search button")?;
        browser.shows("caption", "1 machine", PAGE_LIMIT)?;
        for (path, heading) in [("/ui/appliance", "Appliance"), ("/ui/nothing", "Not found")] {
            browser.open(path)?;
            browser.shows("h1", heading, PAGE_LIMIT)?;
            browser.is_accessible()?;
        }
        browser.open("/ui/appliance")?;
        browser.photograph("appliance")?;

        // A name that its owner leads to our address: the page is one site with us, to the browser. It was the owner's
        // before, so it has no policy of ours.
        browser.ignore_policy()?;
        browser.open_at(&format!("http://{STRANGE_NAME}:6385/ui/"))?;
        browser.shows("body", "A browser is answered by volboot's IP address", PAGE_LIMIT)?;
        let read = browser.run_async(
            "const done = arguments[0];
             fetch('/v1/nodes', {headers: {'User-Agent': 'curl/7.88.1', 'Accept-Language': ''}})
                 .then(answer => answer.text()).then(done, error => done('' + error));",
        )?;
        ensure!(
            read.as_str().is_some_and(|text| text.starts_with("A browser is answered")),
            "it read {read}"
        );
        // A page of another site, which sends what needs no leave.
        browser.open_at(&format!("{door}/healthz"))?;
        let sent = browser.run_async(&format!(
            "const done = arguments[0];
             fetch('http://{API}/v1/nodes', {{method: 'POST', mode: 'no-cors', body: '{{\"driver\": \"fake-hardware\", \"name\": \"evil\"}}'}})
                 .then(answer => done(answer.type), error => done('' + error));",
        ))?;
        browser.open("/ui/?q=evil")?;
        browser.shows("#machines", "No machine is like that.", PAGE_LIMIT)?;
        let found = browser.text("#machines")?;
        ensure!(!found.contains("registered"), "a strange page created a node ({sent}): {found}");
        Ok(())
    })
}
