//! An event in words: one line of a machine's timeline.

use serde::Serialize;

use super::verdict::{because, step};
use crate::telemetry::{Answered, Event, Resolved, Transfer, What};

/// A line of a timeline: what happened, and how people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What happened, in words.
    pub text: String,
    /// What to do about it, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// What happened, as data.
    #[serde(flatten)]
    pub event: Event,
}

/// A timeline in words.
pub fn words(events: impl IntoIterator<Item = Event>) -> Vec<Entry> {
    let mut hooks = Vec::new();
    let entries = events.into_iter().map(|event| {
        if let What::Answered(answered) = &event.what
            && !answered.hooks.is_empty()
        {
            hooks.clone_from(&answered.hooks);
        }
        entry(event, &hooks)
    });
    entries.collect()
}

/// One event in words. `hooks`: the volumes of the script the machine got last.
pub(super) fn entry(event: Event, hooks: &[String]) -> Entry {
    let (mut text, advice) = line(&event.what, hooks);
    if event.times > 1 {
        text.push_str(&format!(" ({} times)", event.times));
    }
    Entry { text, advice, event }
}

fn line(what: &What, hooks: &[String]) -> (String, Option<String>) {
    match what {
        What::Transfer(transfer) => (read(transfer), None),
        What::Fetched { file, size: Some(size) } => {
            (format!("asked over HTTP for {file}: {size} bytes"), None)
        }
        What::Fetched { file, size: None } => {
            (format!("asked over HTTP for {file}, which is not there"), None)
        }
        What::Gathered => ("read /boot.ipxe".to_owned(), None),
        What::Answered(answered) => (question(answered), None),
        What::Reported { step, rc, attempt } => reported(step.as_deref(), rc.as_deref(), *attempt, hooks),
        What::Paced { journeys, seconds } => {
            let text = format!(
                "was told to wait {seconds} s, because it began {journeys} times without ever hooking its volume"
            );
            (text, None)
        }
    }
}

fn read(transfer: &Transfer) -> String {
    let Transfer { file, size, block_size, window, blocks, again, millis, .. } = transfer;
    let repeated = match again {
        0 => String::new(),
        1 => ", 1 packet sent again".to_owned(),
        many => format!(", {many} packets sent again"),
    };
    let how = format!("{blocks} × {block_size} bytes, window {window}{repeated}");
    match transfer.outcome.as_ref() {
        "complete" => format!("read {file} over TFTP: {size} bytes in {millis} ms ({how})"),
        "unconfirmed" => {
            format!("read {file} over TFTP, and went on without confirming the end: {size} bytes ({how})")
        }
        "probe" => format!("asked over TFTP how long {file} is: {size} bytes"),
        "not found" => format!("asked over TFTP for {file}, which is not there"),
        "aborted" => {
            let words = transfer.words.as_deref().filter(|words| !words.is_empty());
            let words = words.map(|words| format!(": \"{words}\"")).unwrap_or_default();
            format!("broke off reading {file} over TFTP after {blocks} blocks{words}")
        }
        other => format!("did not get {file} over TFTP: {other}, after {millis} ms ({how})"),
    }
}

fn question(answered: &Answered) -> String {
    let firmware = match answered.platform.as_deref() {
        Some("pcbios") => " (BIOS)",
        Some("efi") => " (UEFI)",
        _ => "",
    };
    let asked = format!("asked for its script{firmware}, try {}", answered.attempt);
    let volumes: Vec<_> = answered.resolved.iter().map(resolved).collect();
    let volumes = if volumes.is_empty() { String::new() } else { format!("; {}", volumes.join("; ")) };
    let reason = answered.reason.as_deref().unwrap_or_default();
    let got = match answered.outcome.as_ref() {
        "boot" => "it was sent".to_owned(),
        "wait" => format!("it has to wait: {reason}"),
        "local disk" => format!("it goes to its local disk: {reason}"),
        "unknown" => format!("it is unknown: {reason}"),
        _ => format!("it was refused: {reason}"),
    };
    format!("{asked}{volumes}; {got}")
}

fn resolved(resolved: &Resolved) -> String {
    let Resolved { volume, source, millis, fault } = resolved;
    match (source.as_ref(), fault) {
        ("records", _) => format!("volume {volume} is as the node's records say"),
        ("cinder", _) => format!("volume {volume} from Cinder, in {millis} ms"),
        ("last known", Some(fault)) => {
            format!("volume {volume} as last known, since Cinder did not say ({fault}), in {millis} ms")
        }
        ("last known", None) => format!("volume {volume} as last known, in {millis} ms"),
        (_, Some(fault)) => format!("volume {volume} was not found out in {millis} ms: {fault}"),
        (other, None) => format!("volume {volume}: {other}, in {millis} ms"),
    }
}

fn reported(
    name: Option<&str>,
    rc: Option<&str>,
    attempt: u32,
    hooks: &[String],
) -> (String, Option<String>) {
    match (name, rc) {
        (Some("hooked"), None) => ("hooked its volumes: it has logged in and found its disks".into(), None),
        (Some("up"), _) => ("its operating system says that it is up".into(), None),
        (name, rc) => {
            let step = step(name.unwrap_or("a step without a name"), hooks);
            let Some(rc) = rc else { return (format!("try {attempt}: {step} failed"), None) };
            let (why, advice) = because(rc);
            (format!("try {attempt}: {step} failed, {why}"), Some(advice))
        }
    }
}
