//! HTTP basic authentication in a real browser: with a password all pages and live updates, without one an error page.

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
fn browser_with_and_without_a_password() -> Result<()> {
    lab::run(|lab| {
        let passwords = lab.path().join("htpasswd");
        fs::write(&passwords, format!("ann:{}\n", bcrypt::hash("correct horse", 4)?))?;
        // Further keys of section [api].
        let keys = format!("auth = \"http_basic\"\nhtpasswd_file = \"{}\"\n", passwords.display());
        let _volboot = Daemon::start(lab, Path::new(env!("CARGO_BIN_EXE_volboot")), &keys, None)?;
        let browser = Browser::start(lab)?;
        browser.open_url(&format!("http://ann:correct%20horse@{API}/ui/"))?;
        browser.wait_for_text("#machines", "No machines yet.", PAGE_LIMIT)?;
        browser.wait_for_text("#live", "Live.", PAGE_LIMIT)?;
        // From here on the browser sends the password by itself.
        browser.open("/ui/appliance")?;
        browser.wait_for_text("h1", "Appliance", PAGE_LIMIT)?;
        browser.check_accessibility()?;
        // A headless browser has no password prompt, so a script fetches and shows the page after a cancelled prompt.
        let status = browser.run_async_script(
            "const done = arguments[0]; fetch('/ui/', { credentials: 'omit' }).then(async answer => {
                const page = await answer.text();
                document.open(); document.write(page); document.close();
                done(answer.status);
            }, error => done(String(error)))",
        )?;
        ensure!(status == json!(401), "status without a password: {status}");
        browser.wait_for_text("main", "htpasswd", PAGE_LIMIT)?;
        browser.check_accessibility()
    })
}
