//! Formats the API's responses as tables and text.

use std::collections::HashSet;

use serde_json::Value;

use super::terminal::{clean, finish_table, format_size, format_time, list, new_table, text};

/// Formats volboot's status.
pub(super) fn status(response: &Value) -> String {
    let mut rows = vec![
        ("version".to_owned(), text(&response["version"])),
        ("running since".to_owned(), format_time(&response["started_at"])),
    ];
    if list(&response["instances"]).count() > 1 {
        let instances = list(&response["instances"]);
        rows.extend(
            instances.map(|instance| {
                (format!("instance {}", text(&instance["name"])), describe_instance(instance))
            }),
        );
    }
    for missing in list(&response["missing_events"]) {
        rows.push(("events".to_owned(), describe_missing(missing)));
    }
    for listener in list(&response["listeners"]) {
        rows.push((format!("listener {}", text(&listener["name"])), text(&listener["address"])));
    }
    for image in list(&response["images"]) {
        rows.push((format!("iPXE for {}", text(&image["firmware"])), text(&image["name"])));
    }
    for image in list(&response["missing_images"]) {
        let advice = format!("{} not found, install {}", text(&image["name"]), text(&image["install"]));
        rows.push((format!("iPXE for {}", text(&image["firmware"])), advice));
    }
    let store = match response["store"]["latency_us"].as_u64() {
        Some(latency) => format!("{}, latency {latency} µs", format_size(&response["store"]["bytes"])),
        None => "not available".to_owned(),
    };
    let read_only = response["store"]["read_only"].as_str();
    let read_only = read_only.map(|reason| format!(", read-only: {reason}")).unwrap_or_default();
    rows.push(("store".to_owned(), store + &read_only));
    let history = &response["history"];
    let state = if history["recording"] == true { "" } else { ", not recording" };
    let size = format_size(&history["bytes"]);
    rows.push(("history".to_owned(), format!("{size}, {} events dropped{state}", history["events_dropped"])));
    rows.push(("Cinder".to_owned(), text(&response["cinder"])));
    for (state, count) in response["machines"].as_object().into_iter().flatten() {
        if count != 0 {
            rows.push((format!("machines {}", state.replace('_', " ")), count.to_string()));
        }
    }
    let mut table = new_table();
    for (name, value) in rows {
        table.add_row([name, value]);
    }
    finish_table(&mut table)
}

/// Formats all nodes with the verdict on their last boot, then the unknown machines.
pub(super) fn nodes(response: &Value) -> String {
    let mut table = new_table();
    table.set_header(["NODE", "MACHINE", "STATE", "LAST SEEN", "LAST BOOT"]);
    let mut node_machines = HashSet::new();
    for node in list(&response["nodes"]) {
        let machine = list(&response["machines"]).find(|machine| machine["node"] == node["uuid"]);
        let name = text(if node["name"].is_string() { &node["name"] } else { &node["uuid"] });
        match machine {
            Some(machine) => {
                node_machines.insert(text(&machine["id"]));
                table.add_row(machine_row(name, machine));
            }
            None => {
                table.add_row([name, "-".into(), "-".into(), "-".into(), "never seen".into()]);
            }
        }
    }
    for machine in list(&response["machines"]) {
        if !node_machines.contains(&text(&machine["id"])) {
            table.add_row(machine_row("-".to_owned(), machine));
        }
    }
    finish_table(&mut table)
}

/// Formats a check of a node's volumes.
pub(super) fn volume_check(response: &Value) -> String {
    let mut lines = Vec::new();
    for volume in list(&response["volumes"]) {
        let role = match (volume["role"].as_str(), volume["is_boot"] == true) {
            (Some("fallback"), true) => "fallback, in force",
            (Some("fallback"), false) => "fallback",
            (Some("data"), _) => "data volume",
            (Some("boot"), false) => "boot volume, not used while the fallback is in force",
            (_, _) => "boot volume",
        };
        let mut facts = vec![role.to_owned()];
        if !volume["size"].is_null() {
            let blocks = format!("blocks of {} bytes", volume["block_size"]);
            facts.extend([format_size(&volume["size"]), blocks]);
        }
        lines.push(format!("volume {} ({})", text(&volume["volume_id"]), facts.join(", ")));
        lines.extend(list(&volume["verdict"]).map(|line| format!("  {}", text(line))));
        for portal in list(&volume["portals"]) {
            let login = text(&portal["login"]);
            lines.push(format!("  portal {} LUN {}: {login}", text(&portal["portal"]), portal["lun"]));
        }
        lines.extend(list(&volume["findings"]).map(|finding| format!("  * {}", text(finding))));
    }
    if lines.is_empty() {
        lines.extend(list(&response["verdict"]).map(text));
    }
    lines.join("\n") + "\n"
}

fn machine_row(name: String, machine: &Value) -> [String; 5] {
    let verdict = &machine["verdict"];
    let state = text(&verdict["state"]).replace('_', " ");
    [name, text(&machine["id"]), state, format_time(&machine["last_seen"]), text(&verdict["text"])]
}

/// Formats the verdict and the timeline of one machine, or of all machines of one node.
pub(super) fn history(response: &Value) -> String {
    let verdict = &response["verdict"];
    let mut out = match verdict["text"].as_str() {
        Some(_) => format!("{}\n", text(&verdict["text"])),
        None => "No machine has been seen for this node.\n".to_owned(),
    };
    if verdict["advice"].is_string() {
        out.push_str(&format!("{}\n", text(&verdict["advice"])));
    }
    if let Some(power) = power(&response["power"]) {
        out.push_str(&format!("{power}\n"));
    }
    for missing in list(&response["missing_events"]) {
        out.push_str(&format!("{}\n", describe_missing(missing)));
    }
    let mut table = new_table();
    let instances: HashSet<_> = list(&response["timeline"]).map(|entry| entry["instance"].as_str()).collect();
    let row = |time: String, instance: &Value, entry: String| match instances.len() {
        0 | 1 => vec![time, entry],
        _ => vec![time, instance.as_str().map(clean).unwrap_or_default(), entry],
    };
    for entry in list(&response["timeline"]) {
        table.add_row(row(format_time(&entry["at"]), &entry["instance"], text(&entry["text"])));
        if entry["advice"].is_string() {
            table.add_row(row(String::new(), &Value::Null, format!("  {}", text(&entry["advice"]))));
        }
    }
    if !table.is_empty() {
        out.push('\n');
        out.push_str(&finish_table(&mut table));
    }
    out
}

/// An instance on the store, in one line.
fn describe_instance(instance: &Value) -> String {
    let (version, since) = (text(&instance["version"]), format_time(&instance["started_at"]));
    let mut line = format!("version {version}, running since {since}");
    if instance["queue_length"].as_u64().is_some_and(|length| length > 0) {
        line.push_str(&format!(", {} boot requests wait for Cinder", instance["queue_length"]));
    }
    if instance["self"] == true {
        line.push_str(", this one");
    }
    if instance["problem"].is_string() {
        line.push_str(&format!("; does not answer: {}", text(&instance["problem"])));
    }
    let differences: Vec<_> = list(&instance["differences"]).map(text).collect();
    if !differences.is_empty() {
        line.push_str(&format!("; differs in {}", differences.join(", ")));
    }
    line
}

/// The part of an instance that timelines lack.
fn describe_missing(missing: &Value) -> String {
    let (instance, since) = (text(&missing["instance"]), format_time(&missing["since"]));
    format!("The events of {instance} since {since} may be missing: {}.", text(&missing["reason"]))
}

/// A node's power state, recorded and inferred.
fn power(power: &Value) -> Option<String> {
    let recorded = power["recorded"].as_str().map(|_| format!("{} (recorded)", text(&power["recorded"])));
    let inferred = power["inferred"].as_str().map(|_| {
        let (state, at) = (text(&power["inferred"]), format_time(&power["inferred_at"]));
        format!("{state}, inferred from the boot request at {at}")
    });
    match (recorded, inferred) {
        (None, None) => None,
        (Some(one), None) | (None, Some(one)) => Some(one),
        (Some(recorded), Some(inferred)) => Some(format!("{recorded}; {inferred}")),
    }
}

/// Formats the result of an enrollment.
pub(super) fn enrollment(response: &Value) -> String {
    let node = &response["node"];
    format!(
        "node {} ({}) boots as {} from {}\n",
        text(&node["name"]),
        text(&node["uuid"]),
        text(&response["connector"]["connector_id"]),
        text(&response["target"]["volume_id"])
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::client::terminal::{clean_json, format_label};
    use crate::model::is_hidden;

    #[test]
    fn nodes_and_unknown_machines_are_one_table() {
        let response = json!({
            "nodes": [{"uuid": "u1", "name": "web-1"}, {"uuid": "u2", "name": null}],
            "machines": [
                {"id": "52:54:00:00:00:09", "node": null, "last_seen": "2026-11-24T10:00:00Z",
                 "verdict": {"state": "unknown", "text": "stopped\u{1b}[2J at\u{202e} connecting"}},
                {"id": "52:54:00:00:00:01", "node": "u1", "last_seen": "2026-11-24T10:00:01.5Z",
                 "verdict": {"state": "handed_over", "text": "handed over"}},
            ],
        });
        let rows: Vec<_> = nodes(&response)
            .lines()
            .map(|line| {
                line.split("  ")
                    .filter(|w| !w.trim().is_empty())
                    .map(|w| w.trim().to_owned())
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect();
        assert_eq!(
            rows,
            [
                "NODE|MACHINE|STATE|LAST SEEN|LAST BOOT",
                "web-1|52:54:00:00:00:01|handed over|2026-11-24 10:00:01|handed over",
                "u2|-|-|-|never seen",
                "-|52:54:00:00:00:09|unknown|2026-11-24 10:00:00|stopped[2J at connecting",
            ]
        );
    }

    #[test]
    fn history_starts_with_the_verdict() {
        let response = json!({
            "verdict": {"text": "stopped at connecting", "advice": "Look at it."},
            "timeline": [{"at": "2026-11-24T10:00:00Z", "text": "failed", "advice": "Look at it."}],
        });
        assert_eq!(
            history(&response).split_whitespace().collect::<Vec<_>>().join(" "),
            "stopped at connecting Look at it. 2026-11-24 10:00:00 failed Look at it."
        );
        let power =
            |power| history(&json!({"verdict": null, "power": power})).lines().nth(1).map(str::to_owned);
        let at = "2026-11-24T10:00:00.5Z";
        for (state, line) in [
            (json!({"recorded": null, "inferred": null}), None),
            (json!({"recorded": "power off", "inferred": null}), Some("power off (recorded)")),
            (
                json!({"recorded": null, "inferred": "power on", "inferred_at": at}),
                Some("power on, inferred from the boot request at 2026-11-24 10:00:00"),
            ),
            (
                json!({"recorded": "power off", "inferred": "power on", "inferred_at": at}),
                Some("power off (recorded); power on, inferred from the boot request at 2026-11-24 10:00:00"),
            ),
        ] {
            assert_eq!(power(state).as_deref(), line);
        }
        assert_eq!(history(&json!({"verdict": null})), "No machine has been seen for this node.\n");
    }

    #[test]
    fn each_step_names_its_instance_if_there_are_several() {
        let steps = |instances: [&str; 2]| {
            let at = "2026-11-24T10:00:00Z";
            let entries = instances.map(|name| json!({"at": at, "text": "step", "instance": name}));
            let missing = json!([{"instance": "boot-3", "since": at, "reason": "time-out"}]);
            history(&json!({"verdict": {"text": "booted"}, "timeline": entries, "missing_events": missing}))
        };
        let several = steps(["boot-1", "boot-2"]);
        assert!(several.contains("boot-1  step") && several.contains("boot-2  step"), "{several}");
        assert!(!steps(["boot-1", "boot-1"]).contains("boot-1"));
        let line = "The events of boot-3 since 2026-11-24 10:00:00 may be missing: time-out.";
        assert_eq!(several.lines().nth(1), Some(line));
    }

    #[test]
    fn instances_are_listed_if_there_are_several() {
        let instance = |name: &str, problem: Option<&str>| {
            json!({
                "name": name, "version": "1.0", "started_at": "2026-11-24T10:00:00Z", "self": problem.is_none(),
                "queue_length": 2, "problem": problem, "differences": ["iPXE binary ipxe.efi"],
            })
        };
        let one = json!({"store": {}, "history": {}, "instances": [instance("boot-1", None)]});
        assert!(!status(&one).contains("instance"));
        let two = json!({
            "store": {}, "history": {},
            "instances": [instance("boot-1", None), instance("boot-2", Some("time-out"))],
        });
        let text = status(&two);
        let line = "version 1.0, running since 2026-11-24 10:00:00, 2 boot requests wait for Cinder; does not answer: \
                    time-out; differs in iPXE binary ipxe.efi";
        assert!(
            text.contains("instance boot-1") && text.contains("this one") && text.contains(line),
            "{text}"
        );
    }

    #[test]
    fn no_text_of_a_stranger_changes_the_display() {
        let hostile = "a\u{202e}b\u{2066}c\u{1b}]0;x\u{7}\u{9b}2J";
        let machine = json!({
            "id": hostile, "name": hostile, "node": null, "last_seen": hostile,
            "verdict": {"state": hostile, "text": hostile, "advice": hostile},
        });
        let show = json!({
            "verdict": {"text": hostile, "advice": hostile},
            "power": {"recorded": hostile, "inferred": hostile, "inferred_at": hostile},
            "timeline": [
                {"at": hostile, "text": hostile, "advice": hostile},
                {"at": hostile, "text": hostile, "instance": hostile},
            ],
            "missing_events": [{"instance": hostile, "since": hostile, "reason": hostile}],
        });
        let enrolled = json!({
            "node": {"name": hostile, "uuid": hostile}, "connector": {"connector_id": hostile}, "target": {"volume_id": hostile},
        });
        let list = json!({"nodes": [{"uuid": "u", "name": hostile}], "machines": [machine]});
        let appliance = json!({
            "version": hostile, "started_at": hostile, "cinder": hostile, "store": {}, "history": {},
            "listeners": [{"name": hostile, "address": hostile}],
            "instances": [
                {"name": hostile, "version": hostile, "started_at": hostile, "problem": hostile,
                 "differences": [hostile]},
                {"name": "boot-2"},
            ],
        });
        for text in [
            nodes(&list),
            history(&show),
            enrollment(&enrolled),
            status(&appliance),
            format_label(&machine),
            clean(hostile),
            clean_json(&format!("{show:#}")),
        ] {
            assert!(!text.chars().any(|c| c != '\n' && is_hidden(c)), "{text:?}");
            assert!(text.contains('a') && text.contains("2J"), "{text:?}");
        }
        let escaped = clean_json(&format!("{show:#}"));
        assert_eq!(serde_json::from_str::<Value>(&escaped).expect("is JSON"), show);
    }
}
