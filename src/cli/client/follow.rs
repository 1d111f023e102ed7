//! `volboot follow`: prints the event stream, one line per event, until interrupted.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::http::Client;
use super::terminal::{clean, clean_json, format_label, format_time, text};

/// The delay before a reconnect.
const RECONNECT_DELAY: Duration = Duration::from_secs(2);
/// Bytes of a message. The longest message of volboot has some kilobytes.
const MAX_MESSAGE: usize = 1 << 20;

/// Prints events, and reconnects as necessary. Returns if the first connection fails, or if the reader of the pipe
/// has exited.
pub(super) async fn follow(
    client: &Client,
    filter: &[(&str, &str)],
    json: bool,
) -> Result<(), Box<dyn Error>> {
    let mut response = client.stream("/v1/events", filter).await?;
    loop {
        let mut buffer = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            buffer.extend_from_slice(&chunk);
            while let Some(end) = buffer.windows(2).position(|two| two == b"\n\n") {
                let message: Vec<u8> = buffer.drain(..end + 2).collect();
                if !print_message(&String::from_utf8_lossy(&message), json)? {
                    return Ok(());
                }
            }
            if buffer.len() > MAX_MESSAGE {
                break;
            }
        }
        eprintln!("volboot: connection lost, reconnecting");
        response = loop {
            tokio::time::sleep(RECONNECT_DELAY).await;
            if let Ok(response) = client.stream("/v1/events", filter).await {
                break response;
            }
        };
    }
}

/// Prints a message; `false` if the reader of the pipe has exited.
fn print_message(message: &str, json: bool) -> Result<bool, Box<dyn Error>> {
    let data = message.lines().find_map(|line| line.strip_prefix("data: "));
    let Some(data) = data else { return Ok(true) };
    let line = if message.starts_with("event: missed") {
        format!("({} events missed)\n", clean(data))
    } else if json {
        clean_json(&format!("{data}\n"))
    } else {
        let update: Value = serde_json::from_str(data)?;
        format_update(&update)
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        result => Ok(result.map(|()| true)?),
    }
}

fn format_update(update: &Value) -> String {
    let (machine, event) = (&update["machine"], &update["event"]);
    let (time, label) = (format_time(&event["at"]), format_label(machine));
    let instance = event["instance"].as_str().map(|name| format!("{}: ", clean(name))).unwrap_or_default();
    let mut line = format!("{time}  {label}  {instance}{}\n", text(&event["text"]));
    if event["advice"].is_string() {
        line.push_str(&format!("{:21}{}\n", "", text(&event["advice"])));
    }
    line
}
