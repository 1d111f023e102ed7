//! `volboot boot-once`: the options, and the requests to the API.

use std::error::Error;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::ApiOptions;
use super::http::{Client, encode_segment};
use super::machine::parse_duration;
use super::terminal::{format_time, text};

/// The environment variable with the password for `--chap-user`.
const PASSWORD: &str = "VOLBOOT_CHAP_PASSWORD";

#[derive(Debug, Args)]
pub(in crate::cli) struct BootOnceOptions {
    /// Name or UUID of a node
    node: String,
    #[command(flatten)]
    source: OnceSourceOptions,
    /// CHAP user name at the target; the password is read from VOLBOOT_CHAP_PASSWORD
    #[arg(long, value_name = "NAME", requires = "target")]
    chap_user: Option<String>,
    /// How long the one-time boot waits for the machine, such as 90s, 20m or 1h (at most 30 days) [default: 1h]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    ttl: Option<Duration>,
    /// Hook the node's own volumes too, as further drives
    #[arg(long)]
    with_volumes: bool,
    /// Allow a volume that another node uses
    #[arg(long)]
    shared: bool,
    #[command(flatten)]
    api: ApiOptions,
}

/// Without any of them, the command prints what is set.
#[derive(Debug, Args)]
#[group(required = false, multiple = false)]
struct OnceSourceOptions {
    /// Boot from this Cinder volume, which is attached for this boot
    #[arg(long, value_name = "UUID")]
    volume: Option<String>,
    /// Boot from this iSCSI target: iscsi:ADDRESS::PORT:LUN:NAME
    #[arg(long, value_name = "URI")]
    target: Option<String>,
    /// Boot the iPXE script or the program at this URL
    #[arg(long)]
    url: Option<String>,
    /// Boot from the local disk
    #[arg(long)]
    local: bool,
    /// Start the iPXE shell
    #[arg(long)]
    shell: bool,
    /// Cancel the one-time boot, and detach its volume
    #[arg(long)]
    cancel: bool,
}

impl BootOnceOptions {
    /// The options of the API.
    pub(super) fn api(&self) -> &ApiOptions {
        &self.api
    }

    /// Builds the body of the PUT request; `None` without a source.
    fn to_body(&self) -> Result<Option<Value>, Box<dyn Error>> {
        let OnceSourceOptions { volume, target, url, local, shell, cancel: _ } = &self.source;
        let mut body = json!({});
        for (name, value) in [("volume", volume), ("target", target), ("url", url)] {
            if let Some(value) = value {
                body[name] = value.clone().into();
            }
        }
        for (name, is_set) in [("local", *local), ("shell", *shell)] {
            if is_set {
                body[name] = true.into();
            }
        }
        if body == json!({}) {
            if self.with_volumes || self.shared || self.ttl.is_some() {
                return Err("name a source: --volume, --target, --url, --local or --shell".into());
            }
            return Ok(None);
        }
        if let Some(user) = &self.chap_user {
            let password = std::env::var(PASSWORD).map_err(|_| format!("{PASSWORD} is not set"))?;
            body["auth_username"] = user.clone().into();
            body["auth_password"] = password.into();
        }
        if let Some(ttl) = self.ttl {
            body["ttl"] = ttl.as_secs().into();
        }
        body["with_volumes"] = self.with_volumes.into();
        body["shared"] = self.shared.into();
        Ok(Some(body))
    }
}

/// Sets, cancels or reads the one-time boot. Returns the response with it.
pub(super) async fn run(client: &Client, options: &BootOnceOptions) -> Result<Value, Box<dyn Error>> {
    let path = format!("/v1/nodes/{}/boot-once", encode_segment(&options.node));
    if options.source.cancel {
        client.delete(&path).await?;
    } else if let Some(body) = options.to_body()? {
        client.put(&path, &body).await?;
    }
    client.get(&path).await
}

/// The one-time boot in a line.
pub(super) fn describe(response: &Value) -> String {
    let (node, once) = (&response["node"], &response["boot_once"]);
    let name = text(node["name"].as_str().map_or(&node["uuid"], |_| &node["name"]));
    if once.is_null() {
        return format!("node {name}: no one-time boot\n");
    }
    let source = match once["kind"].as_str() {
        Some("volume") => format!("volume {}", text(&once["volume"])),
        Some("target") => format!("target {}", text(&once["target"]["target_iqn"])),
        Some("url") => text(&once["url"]),
        Some("local") => "the local disk".to_owned(),
        _ => "the iPXE shell".to_owned(),
    };
    let with_volumes = if once["with_volumes"] == true { ", with the node's own volumes" } else { "" };
    let state = match once["state"].as_str() {
        Some("armed") => format!("at the next boot, until {}", format_time(&once["expires_at"])),
        Some("consumed") => {
            format!(
                "given to the machine at {}; it ends with the next boot",
                format_time(&once["consumed_at"])
            )
        }
        _ => format!("expired at {}", format_time(&once["expires_at"])),
    };
    format!("node {name}: one-time boot from {source}{with_volumes}: {state}\n")
}
