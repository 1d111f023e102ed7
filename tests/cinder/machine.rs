//! A simulated machine: sends boot requests like iPXE, waits when asked to, and logs in to its volumes.
//!
//! A simulated machine has no firmware and boots nothing, which makes it fast. [`crate::boots`] has emulated
//! machines.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::{Builder, Runtime};

use crate::lab::initiator::{LOGIN_OK, log_in};
use crate::lab::network::SERVER;
use crate::lab::target::Account;

/// The host name that DHCP gives. It takes room in the iBFT.
const HOST_NAME: &str = "machine-0001.lab.volboot.example";

/// iPXE's time-out for a response.
const LIMIT: Duration = Duration::from_secs(20);
/// The pause between two boots.
const PAUSE: Duration = Duration::from_secs(1);
/// The time limit for the recovery of the cloud.
const MAX_WAIT: Duration = Duration::from_secs(90);

/// A machine.
pub(crate) struct Machine {
    mac: String,
    /// The address of the volboot that it asks.
    server: Ipv4Addr,
    http: reqwest::Client,
    runtime: Runtime,
}

/// The response to a boot request.
#[derive(Debug)]
pub(crate) enum BootResponse {
    /// A boot script.
    Boot(Boot),
    /// A request to retry.
    Wait {
        /// The reason.
        reason: String,
        /// The delay before the retry.
        pause: Duration,
        /// The URL of the retry.
        url: String,
    },
    /// A refusal, with the reason.
    Refused(String),
}

/// A parsed boot script.
#[derive(Debug)]
pub(crate) struct Boot {
    initiator: String,
    /// The volumes, in order.
    pub(crate) hooks: Vec<Hook>,
    /// The console messages.
    pub(crate) console: Vec<String>,
}

/// A hooked volume.
#[derive(Debug)]
pub(crate) struct Hook {
    /// The CHAP account, if the target requires one.
    pub(crate) account: Option<Account>,
    /// The paths, each with portal, target and LUN.
    pub(crate) paths: Vec<Path>,
}

/// A path to a volume.
#[derive(Debug)]
pub(crate) struct Path {
    /// Address and port.
    portal: String,
    target: String,
    lun: u64,
}

impl Machine {
    /// A machine with this MAC address.
    pub(crate) fn new(mac: &str) -> Result<Self> {
        volboot::tls::install_provider();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(LIMIT).build()?;
        Ok(Self { mac: mac.replace(':', "-"), server: SERVER, http, runtime })
    }

    /// Sends the further requests to another volboot, as behind an address that moves.
    pub(crate) fn set_server(&mut self, server: Ipv4Addr) {
        self.server = server;
    }

    /// Starts a boot session: requests the common script, then the machine's own, and retries until a boot or a
    /// refusal.
    pub(crate) fn switch_on(&self) -> Result<BootResponse> {
        self.follow(self.request_first()?)
    }

    /// Retries as asked until a boot or a refusal.
    pub(crate) fn follow(&self, mut response: BootResponse) -> Result<BootResponse> {
        let deadline = Instant::now() + MAX_WAIT;
        while let BootResponse::Wait { pause, url, reason } = response {
            ensure!(Instant::now() < deadline, "the machine still waits: {reason}");
            thread::sleep(pause);
            response = self.request_script(&url)?;
        }
        Ok(response)
    }

    /// Boots until the connections are current, and logs in to all volumes.
    pub(crate) fn boot_from_cinder(&self) -> Result<Boot> {
        let deadline = Instant::now() + MAX_WAIT;
        loop {
            match self.switch_on()? {
                BootResponse::Boot(boot) if !boot.is_last_known() => {
                    boot.log_in()?;
                    return Ok(boot);
                }
                BootResponse::Boot(boot) => {
                    ensure!(
                        Instant::now() < deadline,
                        "the connections are still last known ones: {:?}",
                        boot.console
                    );
                }
                other => bail!("the machine does not boot: {other:?}"),
            }
            thread::sleep(PAUSE);
        }
    }

    /// Starts a boot session and expects a wait, in the end with this text in the reason.
    pub(crate) fn expect_wait(&self, text: &str) -> Result<()> {
        let deadline = Instant::now() + MAX_WAIT;
        let mut response = self.request_first()?;
        loop {
            match response {
                BootResponse::Wait { reason, .. } if reason.contains(text) => return Ok(()),
                BootResponse::Wait { reason, pause, url } => {
                    ensure!(Instant::now() < deadline, "the machine waits for another reason: {reason}");
                    thread::sleep(pause);
                    response = self.request_script(&url)?;
                }
                other => bail!("the machine does not wait: {other:?}"),
            }
        }
    }

    /// Starts a boot session and expects a refusal; returns the reason.
    pub(crate) fn expect_refusal(&self) -> Result<String> {
        match self.switch_on()? {
            BootResponse::Refused(reason) => Ok(reason),
            other => bail!("the machine is not refused: {other:?}"),
        }
    }

    /// Starts a boot session; returns the first response.
    pub(crate) fn request_first(&self) -> Result<BootResponse> {
        let script = self.get("boot.ipxe")?;
        let journey = script.split_once("journey=").and_then(|(_, rest)| rest.split('&').next());
        let journey = journey.context("no journey in boot.ipxe")?;
        self.request_script(&format!(
            "{}?macs={}&platform=pcbios&journey={journey}&try=1",
            self.mac, self.mac
        ))
    }

    /// Requests a script at this URL.
    pub(crate) fn request_script(&self, url: &str) -> Result<BootResponse> {
        let script = self.get(&format!("boot/{url}"))?;
        BootResponse::read(&script).with_context(|| format!("in the script:\n{script}"))
    }

    fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{}:8080/{path}", self.server);
        self.runtime.block_on(async {
            let response = self.http.get(&url).send().await?;
            Ok(response.error_for_status()?.text().await?)
        })
    }
}

impl BootResponse {
    fn read(script: &str) -> Result<Self> {
        let console: Vec<String> = script
            .lines()
            .filter_map(|line| line.strip_prefix("echo volboot: "))
            .map(str::to_owned)
            .collect();
        let first = console.first().context("no console message")?.clone();
        if script.contains("\nsanboot ") {
            return Ok(Self::Boot(Boot::read(script, console)?));
        }
        let pause = console.iter().find_map(|line| line.strip_prefix("retrying in ")?.strip_suffix(" s"));
        let Some(pause) = pause else { return Ok(Self::Refused(first)) };
        let url = word_after(script, "chain --replace --autofree ").context("no URL for the retry")?;
        let url = url.replace("${hostname:uristring}", HOST_NAME);
        Ok(Self::Wait { reason: first, pause: Duration::from_secs(pause.parse()?), url })
    }
}

impl Boot {
    fn read(script: &str, console: Vec<String>) -> Result<Self> {
        let initiator = word_after(script, "set initiator-iqn ").context("no initiator name")?;
        let (mut hooks, mut username, mut password) = (Vec::new(), None, None);
        for line in script.lines() {
            if let Some(hex) = line.strip_prefix("set username:hex ") {
                username = Some(decode_hex(hex)?);
            } else if let Some(hex) = line.strip_prefix("set password:hex ") {
                password = Some(decode_hex(hex)?);
            } else if line.starts_with("clear username") {
                (username, password) = (None, None);
            } else if line.starts_with("sanhook ") {
                let paths = line.split(' ').filter(|word| word.starts_with("iscsi:")).map(Path::read);
                let account = username.clone().zip(password.clone());
                let account = account.map(|(username, password)| Account { username, password });
                hooks.push(Hook { account, paths: paths.collect::<Result<_>>()? });
            }
        }
        ensure!(!hooks.is_empty(), "no volume is hooked");
        Ok(Self { initiator, hooks, console })
    }

    /// Logs in to every volume on every path.
    pub(crate) fn log_in(&self) -> Result<()> {
        for hook in &self.hooks {
            for Path { portal, target, lun } in &hook.paths {
                let output = log_in(&self.initiator, portal, target, *lun, hook.account.as_ref())?;
                ensure!(output.contains(LOGIN_OK), "login at {portal}: {output}");
            }
        }
        Ok(())
    }

    /// Whether the console announces last known connections.
    pub(crate) fn is_last_known(&self) -> bool {
        self.console.iter().any(|line| line.contains("booting from the last known connection of"))
    }
}

impl Hook {
    /// The portals of the volume.
    pub(crate) fn portals(&self) -> Vec<&str> {
        self.paths.iter().map(|path| path.portal.as_str()).collect()
    }
}

impl Path {
    /// `iscsi:<address>::<port>:<lun in hexadecimal>:<target>` (RFC 4173, section 5).
    fn read(uri: &str) -> Result<Self> {
        let mut words = uri.splitn(6, ':').skip(1);
        let mut next = || words.next().with_context(|| format!("missing field in {uri}"));
        let (address, _protocol, port, lun, target) = (next()?, next()?, next()?, next()?, next()?);
        let lun = u64::from_str_radix(lun, 16)?;
        Ok(Self { portal: format!("{address}:{port}"), target: target.to_owned(), lun })
    }
}

fn word_after(script: &str, before: &str) -> Option<String> {
    let (_, rest) = script.split_once(before)?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// Decodes `61:62` to "ab".
fn decode_hex(hex: &str) -> Result<String> {
    let bytes = hex.split(':').map(|byte| u8::from_str_radix(byte, 16));
    Ok(String::from_utf8(bytes.collect::<Result<_, _>>()?)?)
}
