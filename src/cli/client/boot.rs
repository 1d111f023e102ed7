//! `volboot boot`: boots a node from the network, and follows the boot to its end.

use std::error::Error;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::ApiOptions;
use super::failure::CommandFailure;
use super::http::Client;
use super::machine::{NodeMachine, POLL_INTERVAL, parse_duration};
use super::terminal::{clean_json, text};

#[derive(Debug, Args)]
pub(in crate::cli) struct BootOptions {
    /// Name or UUID of a node
    node: String,
    /// Follow the boot to its end: the default
    #[arg(long, conflicts_with = "no_wait")]
    wait: bool,
    /// Return when the machine is being switched on
    #[arg(long)]
    no_wait: bool,
    /// Time limit, such as 90s or 20m
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    pub(super) api: ApiOptions,
}

/// The reporter of steps: a line of text, or of JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reporter {
    pub(super) json: bool,
    /// Whether each line names its node: several boot at once.
    pub(super) names_node: bool,
}

impl Reporter {
    pub(super) fn report(self, node: &str, step: &str, line: &str) {
        if self.json {
            let line = json!({"node": node, "step": step, "text": line});
            print!("{}", clean_json(&format!("{line}\n")));
        } else if self.names_node {
            println!("{node}: {line}");
        } else {
            println!("{line}");
        }
    }
}

pub(super) async fn run(client: &Client, options: &BootOptions) -> Result<(), Box<dyn Error>> {
    let reporter = Reporter { json: options.api.json, names_node: false };
    let deadline = Instant::now() + options.timeout;
    let verdict = boot(client, &options.node, deadline, !options.no_wait, reporter).await?;
    reporter.report(&options.node, "verdict", &verdict);
    Ok(())
}

/// Boots a node. Returns the verdict of a successful boot.
pub(super) async fn boot(
    client: &Client,
    node: &str,
    deadline: Instant,
    wait: bool,
    reporter: Reporter,
) -> Result<String, CommandFailure> {
    let machine = NodeMachine::find(client, node).await?;
    machine.check_ports().await?;
    let before = BootHistory(machine.read("/boot-history").await?);
    let storage = text(&machine.read("").await?["storage_interface"]);
    reporter.report(node, "boot_device", &machine.boot_from_network().await?);
    machine.start_power_change("rebooting", None).await?;
    if !wait {
        return Ok("the machine is being switched on".to_owned());
    }
    let state = machine.finish_power_change(deadline).await?;
    reporter.report(node, "power", &format!("{state}; the machine boots"));
    let mut watch =
        BootWatch { seen: before.entries().len(), has_reported_up: before.has_reported_up(), before };
    loop {
        let history = BootHistory(machine.read("/boot-history").await?);
        for entry in watch.take_new(&history) {
            reporter.report(node, "event", &entry);
        }
        match watch.judge(&history, storage == "noop") {
            Judgement::Up(verdict) => return Ok(verdict),
            Judgement::Stopped(verdict) => {
                return Err(CommandFailure::Stopped(format!("node {node}: {verdict}")));
            }
            Judgement::Open => {}
        }
        if history.0["power"]["recorded"] == "power off" {
            let text = format!("node {node}: the BMC shows that the machine went off during its boot");
            return Err(CommandFailure::Bmc(text));
        }
        if Instant::now() >= deadline {
            let verdict = watch.describe(&history);
            return Err(CommandFailure::TimedOut(format!("node {node}: time-out; {verdict}")));
        }
        sleep(POLL_INTERVAL).await;
    }
}

/// A node's boot history, as the API shows it.
struct BootHistory(Value);

impl BootHistory {
    fn entries(&self) -> &[Value] {
        self.0["timeline"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    fn has_reported_up(&self) -> bool {
        self.entries().iter().any(|entry| entry["kind"] == "boot_report" && entry["step"] == "up")
    }

    /// Whether the last boot request got a one-time boot, whose system need not report `up`.
    fn is_one_time(&self) -> bool {
        let last = self.entries().iter().rfind(|entry| entry["kind"] == "boot_request");
        last.is_some_and(|request| request["once"].is_string())
    }

    /// When each machine of the node began its boot session.
    fn journeys(&self) -> Vec<(&Value, &Value)> {
        let machines = self.0["machines"].as_array().map(Vec::as_slice).unwrap_or_default();
        machines.iter().map(|machine| (&machine["id"], &machine["journey_started_at"])).collect()
    }
}

/// The state of a boot that is being followed.
enum Judgement {
    Up(String),
    Stopped(String),
    Open,
}

/// The boot of one node, against the history before it.
struct BootWatch {
    before: BootHistory,
    /// The entries of the timeline that were reported.
    seen: usize,
    has_reported_up: bool,
}

impl BootWatch {
    /// The entries since the last call. The history is bounded, so that it may have lost its oldest entries.
    fn take_new(&mut self, history: &BootHistory) -> Vec<String> {
        let entries = history.entries();
        let new =
            entries.get(self.seen..).unwrap_or_default().iter().map(|entry| text(&entry["text"])).collect();
        self.seen = entries.len();
        new
    }

    /// Whether a machine of the node has begun a boot session since the start.
    fn has_begun(&self, history: &BootHistory) -> bool {
        let before = self.before.journeys();
        history.journeys().iter().any(|journey| !before.contains(journey))
    }

    fn judge(&self, history: &BootHistory, has_local_disk: bool) -> Judgement {
        if !self.has_begun(history) {
            return Judgement::Open;
        }
        let verdict = self.describe(history);
        match history.0["verdict"]["state"].as_str() {
            Some("booted") => Judgement::Up(verdict),
            // A node that has reported `up` before will do so again.
            Some("handed_over") if !self.has_reported_up || history.is_one_time() => Judgement::Up(verdict),
            Some("local_disk") if has_local_disk || history.is_one_time() => Judgement::Up(verdict),
            Some("local_disk" | "stopped" | "looping" | "unknown") => Judgement::Stopped(verdict),
            _ => Judgement::Open,
        }
    }

    fn describe(&self, history: &BootHistory) -> String {
        if !self.has_begun(history) {
            return "the machine was switched on, and no request has arrived over DHCP, TFTP or HTTP: the BMC may ignore the \
                    boot override, or the network of the boot card is down"
                .to_owned();
        }
        let verdict = &history.0["verdict"];
        match verdict["advice"].as_str() {
            Some(_) => format!("{}; {}", text(&verdict["text"]), text(&verdict["advice"])),
            None => text(&verdict["text"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(journey: &str, state: &str, steps: &[&str]) -> BootHistory {
        let timeline: Vec<_> =
            steps.iter().map(|step| json!({"kind": "boot_report", "step": step, "text": step})).collect();
        BootHistory(json!({
            "machines": [{"id": "52:54:00:00:00:01", "journey_started_at": journey}],
            "verdict": {"state": state, "text": state}, "timeline": timeline,
        }))
    }

    fn judge(before: BootHistory, now: &BootHistory, has_local_disk: bool) -> &'static str {
        let watch = BootWatch { seen: 0, has_reported_up: before.has_reported_up(), before };
        match watch.judge(now, has_local_disk) {
            Judgement::Up(_) => "up",
            Judgement::Stopped(_) => "stopped",
            Judgement::Open => "open",
        }
    }

    #[test]
    fn only_a_new_boot_session_counts() {
        let old = || history("1", "booted", &["up"]);
        assert_eq!(judge(old(), &old(), false), "open");
        assert_eq!(judge(old(), &history("2", "booted", &["up", "up"]), false), "up");
        let never_seen = BootHistory(json!({"machines": [], "timeline": []}));
        assert_eq!(judge(never_seen, &history("1", "stopped", &[]), false), "stopped");
    }

    #[test]
    fn handed_over_is_up_for_a_node_that_never_reported_it() {
        let now = history("2", "handed_over", &[]);
        assert_eq!(judge(history("1", "handed_over", &[]), &now, false), "up");
        assert_eq!(judge(history("1", "booted", &["up"]), &now, false), "open");
    }

    #[test]
    fn the_local_disk_is_the_end_of_a_node_without_volumes() {
        let now = history("2", "local_disk", &[]);
        assert_eq!(judge(history("1", "booted", &[]), &now, true), "up");
        assert_eq!(judge(history("1", "booted", &[]), &now, false), "stopped");
        for state in ["booting", "waiting", "retrying", "hooked"] {
            assert_eq!(
                judge(history("1", "booted", &[]), &history("2", state, &[]), false),
                "open",
                "{state}"
            );
        }
    }

    #[test]
    fn a_one_time_boot_is_up_once_the_machine_has_it() {
        for (state, source, expected) in [
            ("local_disk", Some("the local disk"), "up"),
            ("handed_over", Some("volume rescue"), "up"),
            ("hooked", Some("volume rescue"), "open"),
            ("local_disk", None, "stopped"),
            ("handed_over", None, "open"),
        ] {
            let mut now = history("2", state, &[]);
            now.0["timeline"] = json!([
                {"kind": "boot_request", "once": "an earlier one", "text": ""},
                {"kind": "boot_request", "once": source, "text": ""},
            ]);
            assert_eq!(judge(history("1", "booted", &["up"]), &now, false), expected, "{state}, {source:?}");
        }
    }
}
