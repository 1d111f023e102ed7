//! Answers of the API as tables for people.

use std::collections::HashSet;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

/// How volboot itself is.
pub(super) fn status(told: &Value) -> String {
    let mut rows = vec![
        ("version".to_owned(), text(&told["version"])),
        ("running since".to_owned(), moment(&told["started_at"])),
    ];
    for door in list(&told["doors"]) {
        rows.push((format!("door {}", text(&door["door"])), text(&door["address"])));
    }
    for image in list(&told["images"]) {
        rows.push((format!("iPXE for {}", text(&image["firmware"])), text(&image["name"])));
    }
    for image in list(&told["missing_images"]) {
        let missing = format!("{} is missing: install {}", text(&image["name"]), text(&image["install"]));
        rows.push((format!("iPXE for {}", text(&image["firmware"])), missing));
    }
    let store = match told["store"]["answers_in_micros"].as_u64() {
        Some(micros) => format!("{}, answers in {micros} µs", size(&told["store"]["bytes"])),
        None => "does not answer".to_owned(),
    };
    rows.push(("store".to_owned(), store));
    let history = &told["history"];
    let kept = if history["kept"] == true { "" } else { ", not kept now" };
    rows.push(("history".to_owned(), format!("{}, {} lost{kept}", size(&history["bytes"]), history["lost"])));
    rows.push(("Cinder".to_owned(), text(&told["cinder"])));
    for (state, count) in told["machines"].as_object().into_iter().flatten() {
        if count != 0 {
            rows.push((format!("machines {}", state.replace('_', " ")), count.to_string()));
        }
    }
    let mut table = empty();
    for (name, value) in rows {
        table.add_row([name, value]);
    }
    finished(&mut table)
}

/// All nodes with what became of their last boot, and then the machines that are none.
pub(super) fn nodes(told: &Value) -> String {
    let mut table = empty();
    table.set_header(["NODE", "MACHINE", "STATE", "LAST SEEN", "WHAT BECAME OF ITS LAST BOOT"]);
    let mut listed = HashSet::new();
    for node in list(&told["nodes"]) {
        let machine = list(&told["machines"]).find(|machine| machine["node"] == node["uuid"]);
        let name = node["name"].as_str().or(node["uuid"].as_str()).unwrap_or_default().to_owned();
        match machine {
            Some(machine) => {
                listed.insert(text(&machine["id"]));
                table.add_row(row(name, machine));
            }
            None => {
                table.add_row([name, "-".into(), "-".into(), "-".into(), "never seen".into()]);
            }
        }
    }
    for machine in list(&told["machines"]) {
        if !listed.contains(&text(&machine["id"])) {
            table.add_row(row("-".to_owned(), machine));
        }
    }
    finished(&mut table)
}

fn row(name: String, machine: &Value) -> [String; 5] {
    let verdict = &machine["verdict"];
    let state = text(&verdict["state"]).replace('_', " ");
    [name, text(&machine["id"]), state, moment(&machine["last_seen"]), text(&verdict["text"])]
}

/// One machine, or all of one node: the verdict, and how it came to it.
pub(super) fn history(told: &Value) -> String {
    let verdict = &told["verdict"];
    let mut out = match verdict["text"].as_str() {
        Some(text) => format!("{text}\n"),
        None => "No machine was ever seen as this node.\n".to_owned(),
    };
    if let Some(advice) = verdict["advice"].as_str() {
        out.push_str(&format!("{advice}\n"));
    }
    let mut table = empty();
    for entry in list(&told["timeline"]) {
        table.add_row([moment(&entry["at"]), text(&entry["text"])]);
        if let Some(advice) = entry["advice"].as_str() {
            table.add_row([String::new(), format!("  {advice}")]);
        }
    }
    if !table.is_empty() {
        out.push('\n');
        out.push_str(&finished(&mut table));
    }
    out
}

/// A new node.
pub(super) fn enrolled(told: &Value) -> String {
    let node = &told["node"];
    format!(
        "node {} ({}) boots as {} from {}\n",
        text(&node["name"]),
        text(&node["uuid"]),
        text(&told["connector"]["connector_id"]),
        text(&told["target"]["volume_id"])
    )
}

/// What people call a machine.
pub(super) fn label(machine: &Value) -> String {
    match machine["name"].as_str() {
        Some(name) => format!("{name} ({})", text(&machine["id"])),
        None => text(&machine["id"]),
    }
}

/// A moment to the second, in UTC.
pub(super) fn moment(at: &Value) -> String {
    let text = text(at);
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => text,
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text of the answer as it may be shown on a terminal: what machines say of themselves is in it.
fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").chars().filter(|c| !c.is_control()).collect()
}

fn size(bytes: &Value) -> String {
    let bytes = bytes.as_u64().unwrap_or_default();
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

fn empty() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

fn finished(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_and_strangers_are_one_table() {
        let told = json!({
            "nodes": [{"uuid": "u1", "name": "web-1"}, {"uuid": "u2", "name": null}],
            "machines": [
                {"id": "52:54:00:00:00:09", "node": null, "last_seen": "2026-11-24T10:00:00Z",
                 "verdict": {"state": "unknown", "text": "stopped\u{1b}[2J at its question"}},
                {"id": "52:54:00:00:00:01", "node": "u1", "last_seen": "2026-11-24T10:00:01.5Z",
                 "verdict": {"state": "handed_over", "text": "handed over"}},
            ],
        });
        let shown: Vec<_> = nodes(&told)
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
            shown,
            [
                "NODE|MACHINE|STATE|LAST SEEN|WHAT BECAME OF ITS LAST BOOT",
                "web-1|52:54:00:00:00:01|handed over|2026-11-24 10:00:01|handed over",
                "u2|-|-|-|never seen",
                "-|52:54:00:00:00:09|unknown|2026-11-24 10:00:00|stopped[2J at its question",
            ]
        );
    }

    #[test]
    fn a_timeline_begins_with_its_verdict() {
        let told = json!({
            "verdict": {"text": "stopped at connecting", "advice": "Look at it."},
            "timeline": [{"at": "2026-11-24T10:00:00Z", "text": "failed", "advice": "Look at it."}],
        });
        assert_eq!(
            history(&told).split_whitespace().collect::<Vec<_>>().join(" "),
            "stopped at connecting Look at it. 2026-11-24 10:00:00 failed Look at it."
        );
        assert_eq!(history(&json!({"verdict": null})), "No machine was ever seen as this node.\n");
    }
}
