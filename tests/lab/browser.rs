//! Headless Chromium inside the lab, controlled through chromedriver (W3C WebDriver).
//!
//! Notes:
//! * The browser runs in the lab's network namespace and reaches nothing else. Its background traffic is disabled:
//!   no updates, no component lists, no QUIC.
//! * Chromium starts a dozen processes. They form a process group that ends with the test.
//! * A page may still be rendering, so every lookup retries until a deadline.

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
/// Deadline of one WebDriver command.
const STEP_LIMIT: Duration = Duration::from_secs(60);
/// Interval between two lookups.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The web element identifier in responses (WebDriver §12).
const ELEMENT_KEY: &str = "element-6066-11e4-a52e-4f735466cecf";
/// An untrusted host name that resolves to volboot, for DNS-rebinding tests.
pub(crate) const REBOUND_HOST: &str = "evil.example";

/// Runs every axe-core rule on the current page.
const AXE_SCRIPT: &str = "const done = arguments[0]; axe.run(document).then(
    result => done(result.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html + ' ' + n.failureSummary).join('; '))),
    error => done(['axe: ' + error]));";

/// A browser with one window.
pub(crate) struct Browser {
    runtime: Runtime,
    client: Client,
    session: String,
    axe_source: String,
    _driver: Process,
}

/// The preferred colour scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColorScheme {
    Light,
    Dark,
}

impl Browser {
    /// Starts chromedriver and opens a session.
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let axe_source = fs::read_to_string(axe_path()).context("no axe-core: run tests/browser/install")?;
        let mut command = Command::new("chromedriver");
        // Profile and temporary files stay inside the lab.
        command.arg(format!("--port={PORT}")).env("HOME", lab.path()).env("TMPDIR", lab.path());
        let mut driver = Process::start_with_children("chromedriver", &command)?;
        driver.wait_for(&["started successfully"], START_LIMIT)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        volboot::tls::install_provider();
        let client = Client::builder().no_proxy().timeout(STEP_LIMIT).build()?;
        let mut browser = Self { runtime, client, session: String::new(), axe_source, _driver: driver };
        let arguments = [
            "--headless=new".to_owned(),
            "--no-sandbox".to_owned(), // the sandbox does not work as root
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
            format!("--host-resolver-rules=MAP {REBOUND_HOST} 127.0.0.1"),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "binary": "/usr/bin/chromium", "args": arguments },
        } } });
        let response = browser.request(&Method::POST, "/session", &capabilities)?;
        let session = response["sessionId"].as_str().context("no session")?;
        browser.session = format!("/session/{session}");
        Ok(browser)
    }

    /// Opens a page of volboot.
    pub(crate) fn open(&self, path: &str) -> Result<()> {
        self.open_url(&format!("http://{API}{path}"))
    }

    /// Opens any URL.
    pub(crate) fn open_url(&self, url: &str) -> Result<()> {
        self.send("/url", &json!({ "url": url })).map(drop)
    }

    /// The current URL.
    pub(crate) fn current_url(&self) -> Result<String> {
        let url = self.request(&Method::GET, &format!("{}/url", self.session), &Value::Null)?;
        Ok(url.as_str().unwrap_or_default().to_owned())
    }

    /// Runs a script and returns its result.
    pub(crate) fn run_script(&self, script: &str) -> Result<Value> {
        self.send("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs an asynchronous script and returns the value that it passes to its callback argument.
    pub(crate) fn run_async_script(&self, script: &str) -> Result<Value> {
        self.send("/execute/async", &json!({ "script": script, "args": [] }))
    }

    /// The visible text of an element.
    pub(crate) fn text(&self, selector: &str) -> Result<String> {
        let script = format!("return document.querySelector({})?.innerText ?? ''", json!(selector));
        Ok(self.run_script(&script)?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an element contains a text, and returns the whole text of the element.
    pub(crate) fn wait_for_text(&self, selector: &str, text: &str, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            let current = self.text(selector)?;
            if current.contains(text) {
                return Ok(current);
            }
            if Instant::now() > deadline {
                bail!("{selector} does not contain {text:?} after {} s: {current}", within.as_secs());
            }
            // WebDriver has no notifications.
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Clicks an element.
    pub(crate) fn click(&self, selector: &str) -> Result<()> {
        self.with_element(selector, |element| {
            self.send(&format!("/element/{element}/click"), &json!({})).map(drop)
        })
    }

    /// Replaces the value of an input field.
    pub(crate) fn fill(&self, selector: &str, text: &str) -> Result<()> {
        self.with_element(selector, |element| {
            self.send(&format!("/element/{element}/clear"), &json!({}))?;
            self.send(&format!("/element/{element}/value"), &json!({ "text": text })).map(drop)
        })
    }

    /// Acts on an element. Retries if the page has replaced the element meanwhile.
    fn with_element(&self, selector: &str, act: impl Fn(String) -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            match act(self.find(selector)?) {
                Err(error) if format!("{error:#}").contains("stale element") && Instant::now() < deadline => {
                }
                result => return result,
            }
        }
    }

    /// Emulates the preferred colour scheme.
    pub(crate) fn set_color_scheme(&self, scheme: ColorScheme) -> Result<()> {
        let value = if scheme == ColorScheme::Dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": value }]);
        self.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }))
    }

    /// Sets the size of the window.
    pub(crate) fn set_size(&self, width: u32, height: u32) -> Result<()> {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size)
    }

    /// Turns the scripts of pages on or off.
    pub(crate) fn set_scripts(&self, enabled: bool) -> Result<()> {
        self.devtools("Emulation.setScriptExecutionDisabled", &json!({ "value": !enabled }))
    }

    /// Disables the Content-Security-Policy of pages.
    pub(crate) fn bypass_csp(&self) -> Result<()> {
        self.devtools("Page.setBypassCSP", &json!({ "enabled": true }))
    }

    /// Fails if axe-core finds a violation in either colour scheme, or if the page is too wide for a phone.
    pub(crate) fn check_accessibility(&self) -> Result<()> {
        self.run_script(&format!("if (!window.axe) {{ {} }}", self.axe_source))?;
        for scheme in [ColorScheme::Light, ColorScheme::Dark] {
            self.set_color_scheme(scheme)?;
            let violations = self.run_async_script(AXE_SCRIPT)?;
            ensure!(violations == json!([]), "{}, {scheme:?}: {violations:#}", self.current_url()?);
        }
        self.set_color_scheme(ColorScheme::Light)?;
        self.set_size(360, 740)?;
        let width = self.run_script("return document.documentElement.scrollWidth")?;
        self.set_size(1200, 900)?;
        ensure!(width.as_u64() <= Some(360), "{} is {width} px wide on a phone", self.current_url()?);
        Ok(())
    }

    /// Saves a screenshot as PNG in `target/screenshots`.
    pub(crate) fn save_screenshot(&self, name: &str) -> Result<()> {
        let response = self.request(&Method::GET, &format!("{}/screenshot", self.session), &Value::Null)?;
        let image = STANDARD.decode(response.as_str().context("no screenshot")?)?;
        let directory = target().join("screenshots");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(format!("{name}.png")), image)?;
        Ok(())
    }

    fn find(&self, selector: &str) -> Result<String> {
        let deadline = Instant::now() + STEP_LIMIT;
        loop {
            let query = json!({ "using": "css selector", "value": selector });
            match self.send("/element", &query) {
                Ok(element) => return Ok(element[ELEMENT_KEY].as_str().context("no element")?.to_owned()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => std::thread::sleep(POLL_INTERVAL),
            }
        }
    }

    fn devtools(&self, command: &str, parameters: &Value) -> Result<()> {
        self.send("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).map(drop)
    }

    fn send(&self, path: &str, body: &Value) -> Result<Value> {
        self.request(&Method::POST, &format!("{}{path}", self.session), body)
    }

    fn request(&self, method: &Method, path: &str, body: &Value) -> Result<Value> {
        let mut request = self.client.request(method.clone(), format!("http://127.0.0.1:{PORT}{path}"));
        if *method == Method::POST {
            request = request.json(body);
        }
        let (status, mut body) = self.runtime.block_on(async {
            let response = request.send().await?;
            Ok::<_, reqwest::Error>((response.status(), response.json::<Value>().await?))
        })?;
        let value = body["value"].take();
        if !status.is_success() {
            bail!("{method} {path}: {}: {}", value["error"], value["message"]);
        }
        Ok(value)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Lets Chromium finish writing its profile. The driver ends any remaining process.
        let _result = self.request(&Method::DELETE, &self.session, &Value::Null);
    }
}

/// Cargo's target directory.
fn target() -> std::path::PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

fn axe_path() -> std::path::PathBuf {
    target().join("browser/axe.js")
}
