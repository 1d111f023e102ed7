//! Meaning becomes text: one function turns an [`Answer`] into the iPXE script that carries it out (step 9).
//!
//! The scripts themselves are in `templates/*.ipxe`. Whatever the answer, a script says on the console what it
//! does and why, and it ends by booting, by asking again, or with status 1, on which UEFI goes on to the next boot
//! device (status 0 would open the firmware's menu).
//!
//! The one invariant: no value can add a word, a comment or a line to a script. The types in `model` allow no
//! such value, the escaper lets none through, and a test reads random scripts by iPXE's rules.

mod escape;
mod preview;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tokens;

use std::fmt;

use askama::Template;
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::config::{Afterwards, BootConfig};
use crate::model::{
    Answer, Asker, BootPlan, Chap, Hook, Iqn, LoaderPath, MAX_MACS, Platform, SanTable, SanUri,
};
use escape::filters;
pub use preview::preview;

/// How long a reason stays on the console before the firmware goes on and clears it, in seconds.
const READING_TIME: u32 = 5;
/// How long a machine that is to ask again without a plan waits, in seconds.
const RETRY_PAUSE: u32 = 30;
/// The longest pause between two tries to boot, in seconds.
const LONGEST_PAUSE: u32 = 20;
/// How often a server that does not answer is asked, with pauses of 0, 1, 2, … seconds in between.
const ASKED: u32 = 10;

/// A script, which may hold secrets: it can be sent, and shows itself to no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Script(String);

impl Script {
    /// The text, secrets included: for the one machine that is to run it.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script ({} bytes)", self.0.len())
    }
}

/// A value got so far that would change the meaning of a script. The types of `model` should have stopped it.
#[derive(Debug, thiserror::Error)]
#[error("a value cannot be written into an iPXE script")]
pub struct ScriptError;

/// `/boot.ipxe`, the same for every machine: gathers who this is, and asks.
///
/// `base` is put before relative URLs: empty where the script is fetched over HTTP, since iPXE resolves them by
/// the script's own; else a URL that ends in `/`. `journey` is given along: whoever asks with it again is on the same
/// one.
pub fn gather(base: &str, journey: Journey) -> Result<Script, ScriptError> {
    written(Gather { ask: Ask { url: Url::gathering(base, journey), tries: ASKED, dhcp: true } })
}

/// What tells one journey of a machine from another: 16 hexadecimal digits, always as many, so that a file is as long
/// when it is read as it was when its size was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journey(u64);

impl Journey {
    /// One that no other machine is on.
    pub fn new() -> Self {
        Self(Uuid::new_v4().as_u64_pair().1)
    }
}

impl Default for Journey {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for Journey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The script that carries out an answer.
pub fn answer(answer: &Answer, asker: &Asker, config: BootConfig) -> Result<Script, ScriptError> {
    match answer {
        Answer::Boot(plan) => boot(plan, asker, config),
        Answer::Wait { reason, seconds } => wait(reason, *seconds, asker),
        Answer::LocalDisk { reason } => exit(reason, 0),
        Answer::Unknown { reason } => afterwards(reason, config.unknown, asker),
        Answer::Refuse { reason } => afterwards(reason, config.refused, asker),
    }
}

/// The script for a machine that is refused before anybody looked who it is.
pub fn refusal(reason: &str) -> Result<Script, ScriptError> {
    exit(reason, READING_TIME)
}

fn afterwards(reason: &str, then: Afterwards, asker: &Asker) -> Result<Script, ScriptError> {
    match then {
        Afterwards::Exit => exit(reason, READING_TIME),
        Afterwards::Retry => wait(reason, RETRY_PAUSE, asker),
        Afterwards::Shell => written(ShellTemplate { reason }),
    }
}

fn exit(reason: &str, pause: u32) -> Result<Script, ScriptError> {
    written(ExitTemplate { reason, pause })
}

/// A machine that waits has not failed: it asks again as the same try.
fn wait(reason: &str, pause: u32, asker: &Asker) -> Result<Script, ScriptError> {
    written(WaitTemplate { reason, pause, again: Ask::again(asker, asker.attempt) })
}

fn boot(plan: &BootPlan, asker: &Asker, config: BootConfig) -> Result<Script, ScriptError> {
    // Where iPXE did not say what it runs on, the smaller table is the one that fits both.
    let table = SanTable::new(plan, asker.platform.unwrap_or(Platform::Bios));
    let again = (asker.attempt < config.tries).then(|| Ask::again(asker, asker.attempt + 1));
    written(BootTemplate {
        label: &plan.label,
        attempt: asker.attempt,
        tries: config.tries,
        warnings: plan.notes.iter().chain(&table.warnings).map(String::as_str).collect(),
        initiator: &plan.initiator,
        hooks: table.hooks.iter().map(HookView::from).collect(),
        loader: plan.loader.as_ref(),
        here: asker.mac().hyphenated(),
        pause: asker.attempt.saturating_mul(2).min(LONGEST_PAUSE),
        again,
    })
}

fn written(template: impl Template) -> Result<Script, ScriptError> {
    // askama drops a template's last line feed, and iPXE wants none; people do.
    template.render().map(|text| Script(text + "\n")).map_err(|_| ScriptError)
}

#[derive(Template)]
#[template(path = "gather.ipxe", config = "templates/askama.toml")]
struct Gather {
    ask: Ask,
}

#[derive(Template)]
#[template(path = "boot.ipxe", config = "templates/askama.toml")]
struct BootTemplate<'a> {
    label: &'a str,
    attempt: u32,
    tries: u32,
    warnings: Vec<&'a str>,
    initiator: &'a Iqn,
    /// The boot volume first.
    hooks: Vec<HookView<'a>>,
    loader: Option<&'a LoaderPath>,
    /// Relative to the script's own URL, `/boot/<mac>`: so a proxy may put a path before all of it.
    here: String,
    pause: u32,
    /// Nothing on the last try.
    again: Option<Ask>,
}

#[derive(Template)]
#[template(path = "wait.ipxe", config = "templates/askama.toml")]
struct WaitTemplate<'a> {
    reason: &'a str,
    pause: u32,
    again: Ask,
}

#[derive(Template)]
#[template(path = "exit.ipxe", config = "templates/askama.toml")]
struct ExitTemplate<'a> {
    reason: &'a str,
    pause: u32,
}

#[derive(Template)]
#[template(path = "shell.ipxe", config = "templates/askama.toml")]
struct ShellTemplate<'a> {
    reason: &'a str,
}

/// The lines that ask for a script, and go on asking if nobody answers.
#[derive(Template)]
#[template(path = "ask.ipxe", config = "templates/askama.toml")]
struct Ask {
    url: Url,
    tries: u32,
    /// Whether no card may have been opened yet, or have no address: a machine that has asked before has one. An iPXE that
    /// took over the firmware's lease knows `ip` and still has opened none; `netX` is a card that is open.
    dhcp: bool,
}

impl Ask {
    fn again(asker: &Asker, attempt: u32) -> Self {
        Self { url: Url::again(asker, attempt), tries: ASKED, dhcp: false }
    }
}

/// The lines that set or clear the credentials for the next login.
#[derive(Template)]
#[template(path = "credentials.ipxe", config = "templates/askama.toml")]
struct Credentials {
    chap: Option<HexChap>,
}

struct HexChap {
    username: Hex,
    password: Hex,
}

impl From<Option<&Chap>> for Credentials {
    fn from(chap: Option<&Chap>) -> Self {
        Self {
            chap: chap.map(|chap| HexChap {
                username: Hex(chap.username.clone()),
                password: Hex(chap.password.expose_secret().to_owned()),
            }),
        }
    }
}

struct HookView<'a> {
    volume: &'a str,
    drive: String,
    paths: &'a [SanUri],
    described: bool,
    credentials: Credentials,
}

impl<'a> From<&Hook<'a>> for HookView<'a> {
    fn from(hook: &Hook<'a>) -> Self {
        Self {
            volume: &hook.volume.id,
            drive: format!("{:#x}", hook.drive),
            paths: hook.paths,
            described: hook.described,
            credentials: hook.volume.chap.as_ref().into(),
        }
    }
}

/// Bytes as iPXE's `:hex` settings want them, which can say what no plain word can: `61:62:63`.
struct Hex(String);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.bytes().enumerate() {
            let separator = if at == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

/// The URL that a machine asks, which it writes past the escaper: `${…}`, `?` and `&` are meant. It is built here
/// alone, of literals, a checked base, and values of types that hold nothing else than their kind.
struct Url(String);

impl Url {
    /// iPXE fills in who it is. `netX` is the card it booted through.
    fn gathering(base: &str, journey: Journey) -> Self {
        let macs: Vec<_> = (0..MAX_MACS).map(|card| format!("${{net{card}/mac:hexhyp}}")).collect();
        Self(format!(
            "{base}boot/${{netX/mac:hexhyp}}?macs={}&uuid=${{uuid}}&platform=${{platform}}&arch=${{buildarch}}&journey={journey}&try=1",
            macs.join(",")
        ))
    }

    /// What the machine said of itself, said again.
    fn again(asker: &Asker, attempt: u32) -> Self {
        let macs: Vec<_> = asker.macs.iter().map(|mac| mac.hyphenated()).collect();
        let mut url = format!("{}?macs={}", asker.mac().hyphenated(), macs.join(","));
        if let Some(uuid) = asker.uuid {
            url.push_str(&format!("&uuid={uuid}"));
        }
        if let Some(platform) = asker.platform {
            url.push_str(&format!("&platform={}", platform.as_str()));
        }
        if let Some(arch) = &asker.arch {
            url.push_str(&format!("&arch={arch}"));
        }
        if let Some(journey) = &asker.journey {
            url.push_str(&format!("&journey={journey}"));
        }
        Self(format!("{url}&try={attempt}"))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
