//! A browser inside the lab: Debian's chromium, without a window, driven through chromedriver (W3C WebDriver).
//!
//! Traps it copes with:
//! * It lives in the lab's network, as everything that the lab starts, so it can reach nothing else; and it is told to
//!   look for nothing: no updates, no lists, no QUIC.
//! * It starts a dozen processes, which have to end with the test: a family of their own.
//! * A page that is still being drawn has not what is looked for yet: everything is waited for, with a deadline.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::Lab;
use super::daemon::API;
use super::process::Process;

const PORT: u16 = 9515;
const START_LIMIT: Duration = Duration::from_secs(60);
/// One step of the driver's.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at a page.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What an element is called in answers (WebDriver §12).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// A name that leads to us although it is not ours.
pub(crate) const STRANGE_NAME: &str = "evil.example";

/// What axe-core is asked: every rule it has, for the page as it is now.
const AXE: &str = "const done = arguments[0]; axe.run(document).then(
    found => done(found.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).join('; '))),
    error => done(['axe: ' + error]));";

/// A running browser with one window.
pub(crate) struct Browser {
    runtime: Runtime,
    client: Client,
    session: String,
    axe: String,
    _driver: Process,
}

/// How a page is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    Light,
    Dark,
}

impl Browser {
    /// Starts it.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let axe = fs::read_to_string(axe()).context("no axe-core: run tests/browser/install")?;
        let mut command = Command::new("chromedriver");
        // In there, it may keep what it likes.
        command.arg(format!("--port={PORT}")).env("HOME", lab.path()).env("TMPDIR", lab.path());
        let mut driver = Process::start_family("chromedriver", &command)?;
        driver.wait_for(&["started successfully"], START_LIMIT)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        volboot::tls::install_provider();
        let client = Client::builder().no_proxy().timeout(STEP_LIMIT).build()?;
        let mut browser = Self { runtime, client, session: String::new(), axe, _driver: driver };
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(), // as root it has none
            "--disable-gpu".to_owned(),
            "--disable-dev-shm-usage".to_owned(),
            "--disable-quic".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            "--no-first-run".to_owned(),
            "--lang=en".to_owned(),
            "--window-size=1200,900".to_owned(),
            "--hide-scrollbars".to_owned(),
            format!("--user-data-dir={}", lab.path().join("chromium").display()),
            format!("--host-resolver-rules=MAP {STRANGE_NAME} 127.0.0.1"),
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": "/usr/bin/chromium", "args": arguments },
        } } });
        let answer = browser.ask(&Method::POST, "/session", &wanted)?;
        let session = answer["sessionId"].as_str().context("no session")?;
        browser.session = format!("/session/{session}");
        Ok(browser)
    }

    /// Goes to a page of volboot's.
    pub(crate) fn open(&self, path: &str) -> Result<()> {
        self.open_at(&format!("http://{API}{path}"))
    }

    /// Goes anywhere.
    pub(crate) fn open_at(&self, url: &str) -> Result<()> {
        self.send("/url", &json!({ "url": url })).map(drop)
    }

    /// Where it is.
    pub(crate) fn address(&self) -> Result<String> {
        let answer = self.ask(&Method::GET, &format!("{}/url", self.session), &Value::Null)?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// What a script returns.
    pub(crate) fn run(&self, script: &str) -> Result<Value> {
        self.send("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What a script gives to the function that is its only argument.
    pub(crate) fn run_async(&self, script: &str) -> Result<Value> {
        self.send("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// The text of what is at `place`, as it is seen.
    pub(crate) fn text(&self, place: &str) -> Result<String> {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(place));
        Ok(self.run(&script)?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until what is at `place` has this text in it; returns all of its text.
    pub(crate) fn shows(&self, place: &str, text: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            let shown = self.text(place)?;
            if shown.contains(text) {
                return Ok(shown);
            }
            if Instant::now() > deadline {
                bail!("{place} did not show {text:?} within {} s, but: {shown}", within.as_secs());
            }
            // The driver has no way to be told.
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Clicks on it, as a person would.
    pub(crate) fn click(&self, place: &str) -> Result<()> {
        self.with(place, |element| self.send(&format!("/element/{element}/click"), &json!({})).map(drop))
    }

    /// Writes into it, in the place of what was there.
    pub(crate) fn write(&self, place: &str, text: &str) -> Result<()> {
        self.with(place, |element| {
            self.send(&format!("/element/{element}/clear"), &json!({}))?;
            self.send(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
        })
    }

    /// Does something with what is at a place, and again if the page has put something new there meanwhile.
    fn with(&self, place: &str, act: impl Fn(String) -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            match act(self.find(place)?) {
                Err(error) if format!("{error:#}").contains("stale element") && Instant::now() < deadline => {
                }
                done => return done,
            }
        }
    }

    /// Whether it is light or dark where the browser is.
    pub(crate) fn set_colours(&self, colours: Colours) -> Result<()> {
        let value = if colours == Colours::Dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }))
    }

    /// How large its window is.
    pub(crate) fn set_size(&self, width: u32, height: u32) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size)
    }

    /// Lets pages do what our policy forbids them, as if they were not ours.
    pub(crate) fn ignore_policy(&self) -> Result<()> {
        self.devtools("Page.setBypassCSP", &json!({ "enabled": true }))
    }

    /// Fails if axe-core finds a fault in the page, be it light or dark, or if it is too wide for a phone.
    pub(crate) fn is_accessible(&self) -> Result<()> {
        self.run(&format!("if (!window.axe) {{ {} }}", self.axe))?;
        for colours in [Colours::Light, Colours::Dark] {
            self.set_colours(colours)?;
            let found = self.run_async(AXE)?;
            ensure!(found == json!([]), "{}, {colours:?}: {found:#}", self.address()?);
        }
        self.set_colours(Colours::Light)?;
        self.set_size(360, 740)?;
        let width = self.run("return document.documentElement.scrollWidth")?;
        self.set_size(1200, 900)?;
        ensure!(width.as_u64() <= Some(360), "{} is {width} wide on a phone", self.address()?);
        Ok(())
    }

    /// A picture of what is seen, as PNG in `target/screenshots`.
    pub(crate) fn photograph(&self, name: &str) -> Result<()> {
        let answer = self.ask(&Method::GET, &format!("{}/screenshot", self.session), &Value::Null)?;
        let picture = STANDARD.decode(answer.as_str().context("no picture")?)?;
        let album = target().join("screenshots");
        fs::create_dir_all(&album)?;
        fs::write(album.join(format!("{name}.png")), picture)?;
        Ok(())
    }

    fn find(&self, place: &str) -> Result<String> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let wanted = json!({ "using": "css selector", "value": place });
            match self.send("/element", &wanted) {
                Ok(found) => return Ok(found[ELEMENT].as_str().context("no element")?.to_owned()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(LOOK_AGAIN),
            }
        }
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Result<()> {
        self.send("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).map(drop)
    }

    fn send(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(&Method::POST, &format!("{}{path}", self.session), body)
    }

    fn ask(&self, method: &Method, path: &str, body: &Value) -> Result<Value> {
        let mut request = self.client.request(method.clone(), format!("http://127.0.0.1:{PORT}{path}"));
        if *method == Method::POST {
            request = request.json(body);
        }
        let (status, mut answer) = self.runtime.block_on(async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.json::<Value>().await?))
        })?;
        let value = answer["value"].take();
        if !status.is_success() {
            bail!("{method} {path}: {}: {}", value["error"], value["message"]);
        }
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It writes its profile to the end; what is left of it ends with its driver.
        let _ended = self.ask(&Method::DELETE, &self.session, &Value::Null);
    }
}

fn target() -> std::path::PathBuf {
    let at = Path::new(env!("CARGO_MANIFEST_DIR"));
    at.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn axe() -> std::path::PathBuf {
    target().join("browser/axe.js")
}
