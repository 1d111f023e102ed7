//! Writes iPXE scripts: [`build_script`] renders a [`BootAnswer`] as the script that carries it out.
//!
//! The templates are in `templates/*.ipxe`. Each script shows its action and the reason on the console. It ends by
//! booting, by another boot request, or with status 1, on which UEFI tries the next boot device. Status 0 would open
//! the firmware's menu.
//!
//! Invariant: no value can add a word, a comment or a line to a script. The types of `model` allow no such value, the
//! escaper rejects any, and a property test parses random scripts by iPXE's rules.

mod chain;
mod escape;
mod preview;
#[cfg(test)]
mod simulator;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tokens;

use std::fmt;

use askama::Template;
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::config::{BootConfig, FailureAction};
use crate::model::{
    BootAnswer, BootPlan, BootRequest, ChainUrl, Chap, Hook, Iqn, LoaderPath, SanTable, SanUri,
};
use chain::ChainTemplate;
use escape::filters;
pub use preview::preview;

/// How long a reason stays on the console before the firmware clears it, in seconds.
const READING_TIME: u32 = 5;
/// The wait before the next boot request where a failed one is to be retried, in seconds.
const RETRY_PAUSE: u32 = 30;
/// The longest pause between two tries, in seconds.
const MAX_PAUSE: u32 = 20;

/// An iPXE script. `Debug` shows only the length, since the text may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Script(String);

impl Script {
    /// The text with secrets, only for the machine that runs it.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Script ({} bytes)", self.0.len())
    }
}

/// A value would change the meaning of the script. The types of `model` should have prevented it.
#[derive(Debug, thiserror::Error)]
#[error("a value cannot be written into an iPXE script")]
pub struct ScriptError;

/// Builds `/boot.ipxe`, the same for every machine: it collects the machine's facts and sends the first boot request.
///
/// `base` goes before relative URLs: a URL that ends in `/`. It is empty if an iPXE with an address fetches the script over
/// HTTP, since iPXE resolves URLs against the script's own. Before its DHCP an iPXE needs a `base`, and gets the search for
/// the network card. All requests with one `journey` are one boot session.
pub fn build_gather(base: &str, journey: Journey) -> Result<Script, ScriptError> {
    render(GatherTemplate { chain: ChainTemplate::for_first_request(base, journey) })
}

/// The id of a boot session: 16 hexadecimal digits.
///
/// Of constant length, so that the script's size is the same in a TFTP size request and in the transfer after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journey(u64);

impl Journey {
    /// Creates a random id.
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

/// Builds the script that carries out an answer.
pub fn build_script(
    answer: &BootAnswer,
    request: &BootRequest,
    config: BootConfig,
) -> Result<Script, ScriptError> {
    match answer {
        BootAnswer::Boot(plan) => build_boot(plan, request, config),
        BootAnswer::Wait { reason, seconds } => build_wait(reason, *seconds, request),
        BootAnswer::LocalDisk { reason } => build_exit(reason, 0),
        BootAnswer::Url { reason, url } => build_url(reason, url, request, config),
        BootAnswer::Shell { reason } => render(ShellTemplate { reason }),
        BootAnswer::Unknown { reason } => build_failure(reason, config.unknown, request),
        BootAnswer::Refused { reason } => build_failure(reason, config.refused, request),
    }
}

/// Builds the script for a requester that is rejected before identification.
pub fn build_refusal(reason: &str) -> Result<Script, ScriptError> {
    build_exit(reason, READING_TIME)
}

fn build_failure(reason: &str, action: FailureAction, request: &BootRequest) -> Result<Script, ScriptError> {
    match action {
        FailureAction::Exit => build_exit(reason, READING_TIME),
        FailureAction::Retry => build_wait(reason, RETRY_PAUSE, request),
        FailureAction::Shell => render(ShellTemplate { reason }),
    }
}

fn build_exit(reason: &str, pause: u32) -> Result<Script, ScriptError> {
    render(ExitTemplate { reason, pause })
}

/// A wait is not a failure: the next boot request has the same attempt number.
fn build_wait(reason: &str, pause: u32, request: &BootRequest) -> Result<Script, ScriptError> {
    render(WaitTemplate { reason, pause, chain: ChainTemplate::for_retry(request, request.attempt) })
}

/// Each failure to fetch or to start is reported and retried, as that of a volume.
fn build_url(
    reason: &str,
    url: &ChainUrl,
    request: &BootRequest,
    config: BootConfig,
) -> Result<Script, ScriptError> {
    let attempt = request.attempt;
    render(UrlTemplate {
        reason,
        attempt,
        tries: config.tries,
        url,
        base: request.mac().to_hyphenated(),
        pause: pause_after(attempt),
        retry: (attempt < config.tries).then(|| ChainTemplate::for_retry(request, attempt + 1)),
    })
}

/// The pause after a failed try, in seconds.
fn pause_after(attempt: u32) -> u32 {
    attempt.saturating_mul(2).min(MAX_PAUSE)
}

fn build_boot(plan: &BootPlan, request: &BootRequest, config: BootConfig) -> Result<Script, ScriptError> {
    let table = SanTable::new(plan, request);
    let retry = (request.attempt < config.tries)
        .then(|| ChainTemplate::after_failure(request, request.attempt + 1, table.count_entries()));
    render(BootTemplate {
        label: &plan.label,
        once: plan.once.as_deref(),
        attempt: request.attempt,
        tries: config.tries,
        warnings: plan.notes.iter().chain(&table.warnings).map(String::as_str).collect(),
        initiator: &plan.initiator,
        hooks: table.hooks.iter().map(HookView::from).collect(),
        loader: plan.loader.as_ref(),
        base: request.mac().to_hyphenated(),
        pause: pause_after(request.attempt),
        retry,
    })
}

fn render(template: impl Template) -> Result<Script, ScriptError> {
    // askama drops the template's last line feed. iPXE does not need it, a terminal does.
    template.render().map(|text| Script(text + "\n")).map_err(|_| ScriptError)
}

#[derive(Template)]
#[template(path = "gather.ipxe", config = "templates/askama.toml")]
struct GatherTemplate {
    chain: ChainTemplate,
}

#[derive(Template)]
#[template(path = "boot.ipxe", config = "templates/askama.toml")]
struct BootTemplate<'a> {
    label: &'a str,
    /// The source of a one-time boot.
    once: Option<&'a str>,
    attempt: u32,
    tries: u32,
    warnings: Vec<&'a str>,
    initiator: &'a Iqn,
    /// The boot volume first.
    hooks: Vec<HookView<'a>>,
    loader: Option<&'a LoaderPath>,
    /// Relative to the script's own URL, `/boot/<mac>`, so that a proxy may add a path prefix.
    base: String,
    pause: u32,
    /// `None` on the last try.
    retry: Option<ChainTemplate>,
}

#[derive(Template)]
#[template(path = "wait.ipxe", config = "templates/askama.toml")]
struct WaitTemplate<'a> {
    reason: &'a str,
    pause: u32,
    chain: ChainTemplate,
}

#[derive(Template)]
#[template(path = "exit.ipxe", config = "templates/askama.toml")]
struct ExitTemplate<'a> {
    reason: &'a str,
    pause: u32,
}

#[derive(Template)]
#[template(path = "url.ipxe", config = "templates/askama.toml")]
struct UrlTemplate<'a> {
    reason: &'a str,
    attempt: u32,
    tries: u32,
    url: &'a ChainUrl,
    /// As in a boot script.
    base: String,
    pause: u32,
    /// `None` on the last try.
    retry: Option<ChainTemplate>,
}

#[derive(Template)]
#[template(path = "shell.ipxe", config = "templates/askama.toml")]
struct ShellTemplate<'a> {
    reason: &'a str,
}

/// The lines that set or clear the credentials for the next login.
#[derive(Template)]
#[template(path = "credentials.ipxe", config = "templates/askama.toml")]
struct CredentialsTemplate {
    chap: Option<HexChap>,
}

struct HexChap {
    username: Hex,
    password: Hex,
}

impl From<Option<&Chap>> for CredentialsTemplate {
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
    in_ibft: bool,
    credentials: CredentialsTemplate,
}

impl<'a> From<&Hook<'a>> for HookView<'a> {
    fn from(hook: &Hook<'a>) -> Self {
        Self {
            volume: &hook.volume.id,
            drive: format!("{:#x}", hook.drive),
            paths: hook.paths,
            in_ibft: hook.in_ibft,
            credentials: hook.volume.chap.as_ref().into(),
        }
    }
}

/// Bytes for iPXE's `:hex` settings, such as `61:62:63`: any byte can be written that way.
struct Hex(String);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.bytes().enumerate() {
            let separator = if index == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}
