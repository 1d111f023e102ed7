//! The pages behind a password, in a real browser: without it a page that says what to do, with it all of them, what
//! happens live as well.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::lab;
use crate::lab::browser::Browser;
use crate::lab::daemon::{API, Daemon};

const PAGE_LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_browser_logs_in_and_one_that_does_not_is_told_how() -> Result<()> {
    lab::run(|lab| {
        let passwords = lab.path().join("htpasswd");
        fs::write(&passwords, format!("ann:{}\n", bcrypt::hash("correct horse", 4)?))?;
        // In the section of the API.
        let keys = format!("auth = \"http_basic\"\nhtpasswd_file = \"{}\"\n", passwords.display());
        let _volboot = Daemon::start(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), &keys, None)?;
        let browser = Browser::start(lab)?;
        browser.open_at(&format!("http://ann:correct%20horse@{API}/ui/"))?;
        browser.shows("#machines", "No machine was heard of yet.", PAGE_LIMIT)?;
        browser.shows("#live", "Live.", PAGE_LIMIT)?;
        // From here on the browser knows who it is.
        browser.open("/ui/appliance")?;
        browser.shows("h1", "Appliance", PAGE_LIMIT)?;
        browser.is_accessible()?;
        // What is seen by who closes the window that asks for a password: a browser without a screen shows no such page.
        let status = browser.run_async(
            "const done = arguments[0]; fetch('/ui/', { credentials: 'omit' }).then(async answer => {
                const page = await answer.text();
                document.open(); document.write(page); document.close();
                done(answer.status);
            }, error => done(String(error)))",
        )?;
        ensure!(status == json!(401), "without a password: {status}");
        browser.shows("main", "htpasswd", PAGE_LIMIT)?;
        browser.is_accessible()
    })
}
