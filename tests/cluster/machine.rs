//! [`Machine`]: a scripted machine that sends the requests of iPXE, each to any instance.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::appliance::Appliance;

/// The time-out of a request, as iPXE's.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The pause between two requests, in place of the script's.
const PAUSE: Duration = Duration::from_millis(200);

/// A machine, and the next request of its script.
pub(crate) struct Machine {
    mac: String,
    http: reqwest::Client,
    /// The path of the next boot request; `None` before the script that collects the machine's addresses.
    next: Option<String>,
    /// Requests without a response, since the machine was made.
    pub(crate) unanswered: usize,
}

/// The script of a boot request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// The machine boots; the whole script.
    Boot(String),
    /// The machine waits, for this reason.
    Wait(String),
    /// The machine does not boot, for this reason.
    Refusal(String),
}

impl Machine {
    /// A machine, switched off.
    pub(crate) fn new(mac: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(TIMEOUT);
        Self { mac: mac.replace(':', "-"), http: http.build().expect("a client"), next: None, unanswered: 0 }
    }

    /// The same machine at the same point of its boot.
    pub(crate) fn duplicate(&self, mac: &str) -> Self {
        Self { next: self.next.clone(), ..Self::new(mac) }
    }

    /// Switches the machine off: its next request begins a boot session.
    pub(crate) fn switch_off(&mut self) {
        self.next = None;
    }

    /// Requests the script that collects the machine's addresses.
    pub(crate) async fn begin(&mut self, at: SocketAddr) -> Result<(), String> {
        let script = self.get(at, "/boot.ipxe").await?;
        let path = word_after(&script, "chain --replace --autofree ").ok_or("no next request")?;
        let path = path.replace("${netX/mac:hexhyp}", &self.mac).replace("${net0/mac:hexhyp}", &self.mac);
        self.next = Some(format!("/{}", expand(&path)));
        Ok(())
    }

    /// Sends the boot request to an instance, and before it the request for the first script, if necessary.
    pub(crate) async fn ask(&mut self, at: SocketAddr) -> Result<Script, String> {
        if self.next.is_none() {
            self.begin(at).await?;
        }
        let path = self.next.clone().expect("has begun");
        let text = self.get(at, &path).await?;
        let reason = word_line(&text, "echo volboot: ").ok_or_else(|| format!("no message in {text}"))?;
        if text.contains("\nsanboot ") {
            return Ok(Script::Boot(text));
        }
        if text.contains("\necho volboot: retrying in ") {
            let next = word_after(&text, "chain --replace --autofree ").ok_or("no next request")?;
            self.next = Some(format!("/boot/{}", expand(&next)));
            return Ok(Script::Wait(reason));
        }
        self.next = None;
        Ok(Script::Refusal(reason))
    }

    /// Repeats the boot request at one instance after the other, until the machine boots.
    pub(crate) async fn boot(&mut self, at: &[&Appliance], within: Duration) -> String {
        let addresses: Vec<_> = at.iter().map(|appliance| appliance.http()).collect();
        self.boot_at(&addresses, within).await
    }

    /// Like [`Machine::boot`], at these addresses of boot listeners.
    pub(crate) async fn boot_at(&mut self, at: &[SocketAddr], within: Duration) -> String {
        let deadline = Instant::now() + within;
        let mut last = Ok(Script::Wait("no request".into()));
        for address in at.iter().cycle() {
            assert!(Instant::now() < deadline, "{} does not boot within {within:?}: {last:?}", self.mac);
            last = self.ask(*address).await;
            self.unanswered += usize::from(last.is_err());
            match &last {
                Ok(Script::Boot(script)) => return script.clone(),
                Ok(Script::Wait(_)) | Err(_) => sleep(PAUSE).await,
                Ok(Script::Refusal(reason)) => panic!("{} is refused: {reason}", self.mac),
            }
        }
        unreachable!("the addresses repeat")
    }

    /// Expects a wait, in the end for a reason with this text.
    pub(crate) async fn expect_wait(&mut self, at: &Appliance, text: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        loop {
            let script = self.ask(at.http()).await;
            if let Ok(Script::Wait(reason)) = &script
                && reason.contains(text)
            {
                return reason.clone();
            }
            assert!(!matches!(script, Ok(Script::Boot(_))), "{} boots in place of: {text}", self.mac);
            assert!(Instant::now() < deadline, "{}: {script:?} in place of: {text}", self.mac);
            sleep(PAUSE).await;
        }
    }

    /// Reports the step of a boot script.
    pub(crate) async fn report(&self, at: SocketAddr, step: &str) {
        self.get(at, &format!("/boot/{}/event?step={step}&try=1", self.mac))
            .await
            .expect("the report arrives");
    }

    async fn get(&self, at: SocketAddr, path: &str) -> Result<String, String> {
        let result = async {
            let response = self.http.get(format!("http://{at}{path}")).send().await?;
            response.error_for_status()?.text().await
        };
        result.await.map_err(|error: reqwest::Error| format!("{path}: {error:?}"))
    }
}

/// Sets iPXE's further variables, as a machine with one card and no host name does.
fn expand(path: &str) -> String {
    let mut text = String::new();
    let mut rest = path;
    while let Some((before, variable)) = rest.split_once("${") {
        text.push_str(before);
        let (name, after) = variable.split_once('}').expect("a variable ends");
        text.push_str(match name {
            "platform" => "pcbios",
            "buildarch" => "x86_64",
            _ => "",
        });
        rest = after;
    }
    text + rest
}

fn word_after(text: &str, before: &str) -> Option<String> {
    text.split_once(before)?.1.split_whitespace().next().map(str::to_owned)
}

/// The rest of the first line that begins with this text.
fn word_line(text: &str, begin: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(begin)).map(str::to_owned)
}
