//! `volboot follow`: what happens, one line each, until it is interrupted.

use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::client::Client;
use super::tables::{label, moment};

/// How long it waits before it connects again.
const PAUSE: Duration = Duration::from_secs(2);
/// Bytes of a message that are looked at. The longest that volboot sends is some kilobytes.
const LONGEST: usize = 1 << 20;

/// Comes back only if it could not even begin, or nobody reads any more.
pub(super) async fn follow(client: &Client, query: &str, json: bool) -> Result<(), Box<dyn Error>> {
    let path = format!("/v1/events{query}");
    let mut response = client.stream(&path).await?;
    loop {
        let mut read = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            read.extend_from_slice(&chunk);
            while let Some(end) = read.windows(2).position(|two| two == b"\n\n") {
                let message: Vec<u8> = read.drain(..end + 2).collect();
                if !shown(&String::from_utf8_lossy(&message), json)? {
                    return Ok(());
                }
            }
            if read.len() > LONGEST {
                break;
            }
        }
        eprintln!("volboot: the connection has ended; trying again");
        response = loop {
            tokio::time::sleep(PAUSE).await;
            if let Ok(response) = client.stream(&path).await {
                break response;
            }
        };
    }
}

/// Writes a message. `false`: nobody reads it.
fn shown(message: &str, json: bool) -> Result<bool, Box<dyn Error>> {
    let data = message.lines().find_map(|line| line.strip_prefix("data: "));
    let Some(data) = data else { return Ok(true) };
    let line = if message.starts_with("event: missed") {
        format!("({data} events were missed)\n")
    } else if json {
        format!("{data}\n")
    } else {
        let told: Value = serde_json::from_str(data)?;
        line(&told)
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        written => Ok(written.map(|()| true)?),
    }
}

fn line(told: &Value) -> String {
    let (machine, event) = (&told["machine"], &told["event"]);
    let text = event["text"].as_str().unwrap_or_default();
    let mut line = format!("{}  {}  {text}\n", moment(&event["at"]), label(machine));
    if let Some(advice) = event["advice"].as_str() {
        line.push_str(&format!("{:21}{advice}\n", ""));
    }
    line
}
