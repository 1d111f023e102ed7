//! A machine as far as volboot sees one: it asks as iPXE does, waits when it is told to, and logs in to its volumes.
//!
//! It has no firmware and boots nothing, so it is there in no time; [`crate::boots`] has machines that do.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::runtime::{Builder, Runtime};

use crate::lab::initiator::{LET_IN, log_in};
use crate::lab::network::SERVER;
use crate::lab::target::Account;

/// How long iPXE waits for an answer.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two boots of a machine that is switched off and on again.
const PAUSE: Duration = Duration::from_secs(1);
/// No cloud takes longer to come back here.
const LONGEST_WAIT: Duration = Duration::from_secs(90);

/// A machine.
pub(crate) struct Machine {
    mac: String,
    http: reqwest::Client,
    runtime: Runtime,
}

/// What it was told.
#[derive(Debug)]
pub(crate) enum Told {
    /// To boot.
    Boot(Boot),
    /// To ask again.
    Wait {
        /// Why.
        reason: String,
        /// When.
        pause: Duration,
        /// Where.
        again: String,
    },
    /// Not to boot.
    No(String),
}

/// A script that boots.
#[derive(Debug)]
pub(crate) struct Boot {
    initiator: String,
    /// Its volumes, in order.
    pub(crate) hooks: Vec<Hook>,
    /// What it shows on the console.
    pub(crate) said: Vec<String>,
}

/// A volume that is hooked.
#[derive(Debug)]
pub(crate) struct Hook {
    /// Whom it logs in as, if the target wants to know.
    pub(crate) account: Option<Account>,
    /// Portal, target and LUN, as often as there are paths.
    pub(crate) paths: Vec<Path>,
}

/// A way to a volume.
#[derive(Debug)]
pub(crate) struct Path {
    /// Address and port.
    portal: String,
    target: String,
    lun: u64,
}

impl Machine {
    /// A machine with this network card.
    pub(crate) fn new(mac: &str) -> Result<Self> {
        volboot::tls::install_provider();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(LIMIT).build()?;
        Ok(Self { mac: mac.replace(':', "-"), http, runtime })
    }

    /// Is switched on: asks for the script that is the same for all, then for its own, and does as it is told until it
    /// boots or may not.
    pub(crate) fn switch_on(&self) -> Result<Told> {
        self.follow(self.ask_first()?)
    }

    /// Does as it is told until it boots or may not.
    pub(crate) fn follow(&self, mut told: Told) -> Result<Told> {
        let deadline = Instant::now() + LONGEST_WAIT;
        while let Told::Wait { pause, again, reason } = told {
            ensure!(Instant::now() < deadline, "it still waits: {reason}");
            thread::sleep(pause);
            told = self.ask(&again)?;
        }
        Ok(told)
    }

    /// Is switched on until it boots from volumes for which Cinder was asked; all of them let it in.
    pub(crate) fn boots(&self) -> Result<Boot> {
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            match self.switch_on()? {
                Told::Boot(boot) if !boot.is_last_known() => {
                    boot.log_in()?;
                    return Ok(boot);
                }
                Told::Boot(boot) => {
                    ensure!(Instant::now() < deadline, "Cinder is not asked: {:?}", boot.said);
                }
                other => bail!("it does not boot: {other:?}"),
            }
            thread::sleep(PAUSE);
        }
    }

    /// Is switched on, and must be told to wait, in the end for a reason with these words in it.
    pub(crate) fn waits_because(&self, words: &str) -> Result<()> {
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut told = self.ask_first()?;
        loop {
            match told {
                Told::Wait { reason, .. } if reason.contains(words) => return Ok(()),
                Told::Wait { reason, pause, again } => {
                    ensure!(Instant::now() < deadline, "it waits for another reason: {reason}");
                    thread::sleep(pause);
                    told = self.ask(&again)?;
                }
                other => bail!("it does not wait: {other:?}"),
            }
        }
    }

    /// Is switched on, and must not boot.
    pub(crate) fn is_refused(&self) -> Result<String> {
        match self.switch_on()? {
            Told::No(reason) => Ok(reason),
            other => bail!("it is not refused: {other:?}"),
        }
    }

    /// What it is told first after it was switched on.
    pub(crate) fn ask_first(&self) -> Result<Told> {
        let gathering = self.get("boot.ipxe")?;
        let journey = gathering.split_once("journey=").and_then(|(_, rest)| rest.split('&').next());
        let journey = journey.context("no journey in boot.ipxe")?;
        self.ask(&format!("{}?macs={}&platform=pcbios&journey={journey}&try=1", self.mac, self.mac))
    }

    /// What it is told there.
    pub(crate) fn ask(&self, url: &str) -> Result<Told> {
        let script = self.get(&format!("boot/{url}"))?;
        Told::read(&script).with_context(|| format!("it was told:\n{script}"))
    }

    fn get(&self, path: &str) -> Result<String> {
        let url = format!("http://{SERVER}:8080/{path}");
        self.runtime.block_on(async {
            let answer = self.http.get(&url).send().await?;
            Ok(answer.error_for_status()?.text().await?)
        })
    }
}

impl Told {
    fn read(script: &str) -> Result<Self> {
        let said: Vec<String> = script
            .lines()
            .filter_map(|line| line.strip_prefix("echo volboot: "))
            .map(str::to_owned)
            .collect();
        let first = said.first().context("it says nothing")?.clone();
        if script.contains("\nsanboot ") {
            return Ok(Self::Boot(Boot::read(script, said)?));
        }
        let pause = said.iter().find_map(|line| line.strip_prefix("asking again in ")?.strip_suffix(" s"));
        let Some(pause) = pause else { return Ok(Self::No(first)) };
        let again = word_after(script, "chain --replace --autofree ").context("nowhere to ask again")?;
        Ok(Self::Wait { reason: first, pause: Duration::from_secs(pause.parse()?), again })
    }
}

impl Boot {
    fn read(script: &str, said: Vec<String>) -> Result<Self> {
        let initiator = word_after(script, "set initiator-iqn ").context("no initiator name")?;
        let (mut hooks, mut username, mut password) = (Vec::new(), None, None);
        for line in script.lines() {
            if let Some(hex) = line.strip_prefix("set username:hex ") {
                username = Some(text_of(hex)?);
            } else if let Some(hex) = line.strip_prefix("set password:hex ") {
                password = Some(text_of(hex)?);
            } else if line.starts_with("clear username") {
                (username, password) = (None, None);
            } else if line.starts_with("sanhook ") {
                let paths = line.split(' ').filter(|word| word.starts_with("iscsi:")).map(Path::read);
                let account = username.clone().zip(password.clone());
                let account = account.map(|(username, password)| Account { username, password });
                hooks.push(Hook { account, paths: paths.collect::<Result<_>>()? });
            }
        }
        ensure!(!hooks.is_empty(), "no volume");
        Ok(Self { initiator, hooks, said })
    }

    /// Logs in to every volume on every path.
    pub(crate) fn log_in(&self) -> Result<()> {
        for hook in &self.hooks {
            for Path { portal, target, lun } in &hook.paths {
                let said = log_in(&self.initiator, portal, target, *lun, hook.account.as_ref())?;
                ensure!(said.contains(LET_IN), "{portal} said: {said}");
            }
        }
        Ok(())
    }

    /// Whether the console tells that these are the connections of an earlier boot.
    pub(crate) fn is_last_known(&self) -> bool {
        self.said.iter().any(|line| line.contains("booting from the connection of"))
    }
}

impl Hook {
    /// The portals by which it is reached.
    pub(crate) fn portals(&self) -> Vec<&str> {
        self.paths.iter().map(|path| path.portal.as_str()).collect()
    }
}

impl Path {
    /// `iscsi:<address>::<port>:<lun in hexadecimal>:<target>` (RFC 4173, section 5).
    fn read(uri: &str) -> Result<Self> {
        let mut words = uri.splitn(6, ':').skip(1);
        let mut next = || words.next().with_context(|| format!("too little in {uri}"));
        let (address, _protocol, port, lun, target) = (next()?, next()?, next()?, next()?, next()?);
        let lun = u64::from_str_radix(lun, 16)?;
        Ok(Self { portal: format!("{address}:{port}"), target: target.to_owned(), lun })
    }
}

fn word_after(script: &str, before: &str) -> Option<String> {
    let (_, rest) = script.split_once(before)?;
    rest.split_whitespace().next().map(str::to_owned)
}

/// `61:62` is "ab".
fn text_of(hex: &str) -> Result<String> {
    let bytes = hex.split(':').map(|byte| u8::from_str_radix(byte, 16));
    Ok(String::from_utf8(bytes.collect::<Result<_, _>>()?)?)
}
