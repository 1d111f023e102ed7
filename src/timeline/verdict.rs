//! The rules for a [`Verdict`]: the result of a machine's last boot, in one line, with advice.
//!
//! *Script sent* is never *booted*. *Hooked*: the machine reported its volumes hooked, so login and disk are proven.
//! *Handed over*: no error for three minutes after that, so the operating system has most likely taken over.
//! *Booted*: the operating system reported `up`.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::boot_stage::BootStage;
use super::boot_state::{BootState, Verdict, in_words};
use super::dhcp_verdict::judge_dhcp;
use super::no_network_boot::{ADVICE, describe_missing_boot};
use super::progress::{BootProgress, StepFailure};
use crate::model::{BootOutcome, BootStep, InstanceServer, TransferOutcome};
use crate::telemetry::errno;

/// Complete loads of the same file in a row that count as a boot loop.
const LOOP_LOADS: u32 = 3;
/// Time-out from the last file or `/boot.ipxe` to the boot request. iPXE takes a few seconds.
const REQUEST_TIMEOUT: SignedDuration = SignedDuration::from_mins(1);
/// Time-out from the boot script to a report. iPXE gives up on a silent target after about 16 s, for each volume.
const REPORT_TIMEOUT: SignedDuration = SignedDuration::from_mins(3);
/// Time without an error after which a machine with hooked volumes counts as handed over.
const HANDOVER_DELAY: SignedDuration = SignedDuration::from_mins(3);
/// Time-out from a `wait` answer to the next boot request. Includes the time that the machine sleeps.
const WAIT_TIMEOUT: SignedDuration = SignedDuration::from_mins(5);

impl Verdict {
    /// The verdict on a machine's progress at a given time.
    pub fn new(progress: &BootProgress, now: Timestamp) -> Self {
        let verdict =
            judge_stage(progress, now.duration_since(progress.updated_at)).with_server(progress.server);
        let verdict = verdict.of_one_time_boot(progress.once.as_deref());
        let verdict = match &progress.dhcp_after_boot {
            Some(requests) => {
                requests.judge(verdict, now.duration_since(requests.updated_at) < REQUEST_TIMEOUT)
            }
            None => verdict,
        };
        if progress.is_delayed { verdict.in_boot_loop(progress) } else { verdict }
    }

    /// The verdict on a one-time boot. The reason of an answer without a volume says it already.
    fn of_one_time_boot(self, source: Option<&str>) -> Self {
        match source {
            Some(source) if !self.text.contains("one-time boot") => {
                Self { text: format!("one-time boot from {source}: {}", self.text), ..self }
            }
            _ => self,
        }
    }

    /// The verdict on a delayed machine. It may still boot, but lists show it as looping until it does.
    fn in_boot_loop(self, progress: &BootProgress) -> Self {
        let text = match self.state {
            BootState::Hooked
            | BootState::HandedOver
            | BootState::Booted
            | BootState::LocalDisk
            | BootState::Unknown => return self,
            // The text names the boot loop already.
            BootState::Looping => self.text,
            // The reason of the wait names the boot loop already.
            BootState::Waiting | BootState::Stopped if progress.stage.is_held() => self.text,
            BootState::Booting | BootState::Waiting | BootState::Retrying | BootState::Stopped => {
                let sessions = progress.journeys_without_hook;
                format!("boot loop: {sessions} boot sessions without a hooked volume; now: {}", self.text)
            }
        };
        Self { state: BootState::Looping, text, ..self }
    }

    /// Adds who attached the volumes of the boot script, if that was another client.
    fn with_server(self, server: Option<Uuid>) -> Self {
        match server {
            Some(server) => {
                let text = format!("{}; attached by {}", self.text, InstanceServer(server));
                Self { text, ..self }
            }
            None => self,
        }
    }
}

/// The verdict on a stage that the machine reached a given time ago.
fn judge_stage(progress: &BootProgress, since: SignedDuration) -> Verdict {
    match &progress.stage {
        BootStage::DhcpRequested => {
            let dhcp = progress.dhcp.clone().unwrap_or_default();
            judge_dhcp(&dhcp, since < REQUEST_TIMEOUT)
        }
        BootStage::LoadRefused { reason } => {
            Verdict::with_text(BootState::Stopped, format!("stopped: {reason}")).with_advice(
                "Install an iPXE with HTTP and iSCSI on volboot's host, such as the distribution's: `volboot images` lists \
                 the binaries. If the console shows one iPXE only, the binary does not start on this machine.",
            )
        }
        BootStage::NoNetworkBoot { seconds } => {
            let text = format!("stopped: {}", describe_missing_boot(*seconds));
            Verdict::with_text(BootState::Stopped, text).with_advice(ADVICE)
        }
        BootStage::Loaded { file, http } if progress.repeated_loads >= LOOP_LOADS => {
            let (protocol, loads) = (protocol_name(*http), progress.repeated_loads);
            let text =
                format!("boot loop: read {file} over {protocol} {loads} times in a row, no script requested");
            Verdict::with_text(BootState::Looping, text).with_advice(
                "DHCP probably sends iPXE the file that is meant for firmware. iPXE sends DHCP option 175 and must get \
                 the script's URL instead: use the files in /usr/share/volboot/dhcp.",
            )
        }
        BootStage::Loaded { file, http } if since < REQUEST_TIMEOUT => {
            Verdict::with_text(BootState::Booting, format!("read {file} over {}", protocol_name(*http)))
        }
        BootStage::Loaded { file, http } => {
            let protocol = protocol_name(*http);
            let text = format!("stopped after reading {file} over {protocol}: no script requested");
            Verdict::with_text(BootState::Stopped, text).with_advice(
                "Look at the machine's console. If iPXE never appears, the file is for other firmware. If iPXE appears, \
                 DHCP must send it the script's URL, and the machine must reach the boot listener.",
            )
        }
        BootStage::LoadFailed { file, outcome, http } => judge_failed_load(file, outcome, *http),
        BootStage::SessionStarted if since < REQUEST_TIMEOUT => {
            Verdict::with_text(BootState::Booting, "read /boot.ipxe; boot request not received yet")
        }
        BootStage::SessionStarted => {
            Verdict::with_text(BootState::Stopped, "stopped after reading /boot.ipxe: no boot request")
                .with_advice("Look at the machine's console: it shows the error of the boot request.")
        }
        BootStage::NoBoot { outcome, reason, held: _ } => judge_answer(outcome, reason, since),
        BootStage::ScriptSent { attempt } => judge_sent_script(progress, *attempt, since),
        BootStage::Failed => judge_failure(progress),
        BootStage::Hooked => judge_hooked(progress, since),
        BootStage::Up => {
            let duration = seconds(progress.updated_at.duration_since(progress.journey_started_at));
            Verdict::with_text(BootState::Booted, format!("booted after {duration}"))
        }
    }
}

fn protocol_name(http: bool) -> &'static str {
    if http { "HTTP" } else { "TFTP" }
}

fn judge_failed_load(file: &str, outcome: &TransferOutcome, http: bool) -> Verdict {
    let word = in_words(outcome.as_str());
    let look = "Look at the machine's console, and at the client's message in the timeline.";
    let (cause, advice) = match outcome {
        TransferOutcome::NotFound => (
            "file not found",
            "Set a file name in DHCP that volboot serves. `volboot images` lists them, and the packages of missing ones.",
        ),
        TransferOutcome::TimedOut => (
            "time-out: the client stopped acknowledging",
            "Check for a firewall that passes port 69 only, and for packets larger than the network's MTU.",
        ),
        TransferOutcome::Busy => ("too many concurrent transfers", "The firmware retries by itself."),
        TransferOutcome::Refused => {
            ("invalid request", "The TFTP server is read-only and accepts no uploads.")
        }
        TransferOutcome::Stopped => ("volboot was shutting down", "The firmware retries by itself."),
        TransferOutcome::Aborted => ("aborted by the client", look),
        // The first four are no failed loads.
        TransferOutcome::Complete
        | TransferOutcome::Unconfirmed
        | TransferOutcome::Probe
        | TransferOutcome::Replaced
        | TransferOutcome::Other(_) => (word.as_str(), look),
    };
    let text = format!("failed: reading {file} over {}: {cause}", protocol_name(http));
    Verdict::with_text(BootState::Stopped, text).with_advice(advice)
}

/// The verdict on a boot request that was not answered with a script to boot by.
fn judge_answer(outcome: &BootOutcome, reason: &str, since: SignedDuration) -> Verdict {
    match outcome {
        BootOutcome::LocalDisk => {
            Verdict::with_text(BootState::LocalDisk, format!("sent to the local disk: {reason}"))
        }
        BootOutcome::Url => Verdict::with_text(BootState::HandedOver, format!("sent to a URL: {reason}")),
        BootOutcome::Shell => {
            Verdict::with_text(BootState::HandedOver, format!("in the iPXE shell: {reason}"))
        }
        BootOutcome::Unknown => Verdict::with_text(BootState::Unknown, format!("unknown machine: {reason}"))
            .with_advice("Enroll the machine with `volboot enroll`."),
        BootOutcome::Wait if since < WAIT_TIMEOUT => {
            Verdict::with_text(BootState::Waiting, format!("waiting: {reason}"))
        }
        BootOutcome::Wait => {
            let text = format!("stopped while waiting: no further boot request; the wait's reason: {reason}");
            Verdict::with_text(BootState::Stopped, text).with_advice("The machine was probably switched off.")
        }
        BootOutcome::Refused => Verdict::with_text(BootState::Stopped, format!("refused: {reason}")),
        // `Boot` has a stage of its own.
        BootOutcome::Boot | BootOutcome::Other(_) => {
            Verdict::with_text(BootState::Stopped, format!("{}: {reason}", in_words(outcome.as_str())))
        }
    }
}

fn judge_sent_script(progress: &BootProgress, attempt: u32, since: SignedDuration) -> Verdict {
    match &progress.failure {
        Some(failure) if since < REPORT_TIMEOUT => {
            let (text, advice) = describe_failure(progress, failure);
            let tries = count_tries(failure.attempt, progress.tries);
            let text = format!("failed: {text}; {tries}, now at try {attempt}");
            Verdict { state: BootState::Retrying, text, advice }
        }
        _ if since < REPORT_TIMEOUT => {
            Verdict::with_text(BootState::Booting, "boot script sent; no report from the machine yet")
        }
        _ => Verdict::with_text(
            BootState::Stopped,
            format!(
                "stopped after the boot script was sent: no report for {}, neither success nor error",
                seconds(REPORT_TIMEOUT)
            ),
        )
        .with_advice(
            "Look at the machine's console. The machine hangs, was switched off, or cannot reach volboot.",
        ),
    }
}

fn judge_failure(progress: &BootProgress) -> Verdict {
    let Some(failure) = &progress.failure else {
        return Verdict::with_text(BootState::Stopped, "failed: cause unknown");
    };
    let (text, advice) = describe_failure(progress, failure);
    let (state, next) = if failure.attempt < progress.tries {
        (BootState::Retrying, "retrying")
    } else {
        (BootState::Stopped, "giving up")
    };
    let tries = count_tries(failure.attempt, progress.tries);
    Verdict { state, text: format!("failed: {text}; {tries}, {next}"), advice }
}

/// "try 1 of 10"; without the total if it is not known.
fn count_tries(attempt: u32, tries: u32) -> String {
    if attempt > tries { format!("try {attempt}") } else { format!("try {attempt} of {tries}") }
}

/// "step: cause", and advice.
fn describe_failure(progress: &BootProgress, failure: &StepFailure) -> (String, Option<String>) {
    let step = describe_step(&failure.step, &progress.hooks);
    let Some(rc) = &failure.rc else { return (format!("{step}: no error number"), None) };
    let (cause, advice) = describe_error(rc);
    (format!("{step}: {cause}"), Some(advice))
}

/// Cause and advice for iPXE's error number.
pub(super) fn describe_error(rc: &str) -> (String, String) {
    if let Some(meaning) = errno::meaning(rc) {
        return (format!("{} [{rc}]", meaning.cause), meaning.advice.to_owned());
    }
    let page = errno::page(rc).unwrap_or_else(|| "https://ipxe.org/err".to_owned());
    (format!("iPXE error {rc}"), format!("See {page}."))
}

/// A step in operator's words.
pub(super) fn describe_step(step: &BootStep, hooks: &[String]) -> String {
    match step {
        BootStep::Hook(index) => match hooks.get(*index as usize) {
            Some(volume) => format!("connecting to volume {volume}"),
            None => "connecting to a volume".to_owned(),
        },
        BootStep::Boot => "starting from the volume".to_owned(),
        BootStep::Hooked | BootStep::Up | BootStep::Other(_) => step.to_string(),
    }
}

fn judge_hooked(progress: &BootProgress, since: SignedDuration) -> Verdict {
    let duration = seconds(progress.updated_at.duration_since(progress.journey_started_at));
    if since < HANDOVER_DELAY {
        return Verdict::with_text(BootState::Hooked, format!("volume hooked after {duration}"));
    }
    let minutes = HANDOVER_DELAY.as_mins();
    let text = format!("handed over: volume hooked after {duration}, no error in {minutes} min since");
    Verdict::with_text(BootState::HandedOver, text)
}

fn seconds(duration: SignedDuration) -> String {
    format!("{} s", duration.as_secs().max(0))
}
