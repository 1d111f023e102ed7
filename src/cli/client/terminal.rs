//! Values of responses as text for the terminal.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use crate::model::is_hidden;

/// A machine's name with its id, or the id only.
pub(super) fn format_label(machine: &Value) -> String {
    match &machine["name"] {
        name @ Value::String(_) => format!("{} ({})", text(name), text(&machine["id"])),
        _ => text(&machine["id"]),
    }
}

/// A time in UTC, to the second.
pub(super) fn format_time(at: &Value) -> String {
    let text = text(at);
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => text,
    }
}

/// The items of an array.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text for the terminal: machines and clients choose parts of it.
pub(super) fn text(value: &Value) -> String {
    clean(value.as_str().unwrap_or("-"))
}

/// A text without characters that would change the display of others.
pub(in crate::cli) fn clean(text: &str) -> String {
    text.chars().filter(|c| !is_hidden(*c)).collect()
}

/// JSON for the terminal: the same characters are escaped. They occur within strings only, but for the line breaks of
/// the layout.
pub(super) fn clean_json(json: &str) -> String {
    let escape = |c: char| match c {
        '\n' => c.to_string(),
        c if is_hidden(c) => format!("\\u{:04x}", c as u32),
        c => c.to_string(),
    };
    json.chars().map(escape).collect()
}

/// A size in KiB or MiB.
pub(super) fn format_size(bytes: &Value) -> String {
    let Some(bytes) = bytes.as_u64() else { return "size unknown".to_owned() };
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

/// A table without lines.
pub(super) fn new_table() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table
}

/// The text of a table.
pub(super) fn finish_table(table: &mut Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}
