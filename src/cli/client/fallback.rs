//! `volboot fallback`, `promote` and `retry`: the options, and the requests to the API.

use std::error::Error;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::ApiOptions;
use super::http::{Client, encode_segment};
use super::terminal::{format_time, text};

/// The environment variable with the password for `--chap-user`.
const PASSWORD: &str = "VOLBOOT_CHAP_PASSWORD";

#[derive(Debug, Args)]
pub(in crate::cli) struct FallbackOptions {
    /// Name or UUID of a node
    node: String,
    /// Remove the fallback
    #[arg(conflicts_with_all = ["volume", "target"])]
    off: Option<FallbackWord>,
    #[command(flatten)]
    source: FallbackSourceOptions,
    /// CHAP user name at the target; the password is read from VOLBOOT_CHAP_PASSWORD
    #[arg(long, value_name = "NAME", requires = "target")]
    chap_user: Option<String>,
    /// Path of the boot loader on the fallback, where UEFI firmware would not find it by itself
    #[arg(long, value_name = "PATH", requires = "FallbackSourceOptions")]
    uefi_loader: Option<String>,
    /// Hook the node's data volumes beside the fallback
    #[arg(long, requires = "FallbackSourceOptions")]
    with_data: bool,
    /// Allow a volume that another node uses
    #[arg(long, requires = "FallbackSourceOptions")]
    shared: bool,
    #[command(flatten)]
    api: ApiOptions,
}

/// Without any of them, and without `off`, the command prints what is set.
#[derive(Debug, Args)]
#[group(required = false, multiple = false)]
struct FallbackSourceOptions {
    /// Fall back to this Cinder volume
    #[arg(long, value_name = "UUID")]
    volume: Option<String>,
    /// Fall back to this iSCSI target: iscsi:ADDRESS::PORT:LUN:NAME
    #[arg(long, value_name = "URI")]
    target: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FallbackWord {
    Off,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct FallbackVerbOptions {
    /// Name or UUID of a node
    node: String,
    #[command(flatten)]
    api: ApiOptions,
}

impl FallbackOptions {
    /// The options of the API.
    pub(super) fn api(&self) -> &ApiOptions {
        &self.api
    }

    /// Builds the body of the PUT request; `None` without a source.
    fn to_body(&self) -> Result<Option<Value>, Box<dyn Error>> {
        let FallbackSourceOptions { volume, target } = &self.source;
        let mut body = match (volume, target) {
            (Some(volume), _) => json!({"volume": volume}),
            (None, Some(target)) => json!({"target": target}),
            (None, None) => return Ok(None),
        };
        if let Some(user) = &self.chap_user {
            let password = std::env::var(PASSWORD).map_err(|_| format!("{PASSWORD} is not set"))?;
            body["auth_username"] = user.clone().into();
            body["auth_password"] = password.into();
        }
        if let Some(loader) = &self.uefi_loader {
            body["uefi_loader"] = loader.clone().into();
        }
        body["with_data"] = self.with_data.into();
        body["shared"] = self.shared.into();
        Ok(Some(body))
    }
}

impl FallbackVerbOptions {
    /// The options of the API.
    pub(super) fn api(&self) -> &ApiOptions {
        &self.api
    }
}

/// Sets, removes or reads the fallback. Returns the response with it.
pub(super) async fn run(client: &Client, options: &FallbackOptions) -> Result<Value, Box<dyn Error>> {
    let path = format!("/v1/nodes/{}/fallback", encode_segment(&options.node));
    if options.off.is_some() {
        client.delete(&path).await?;
    } else if let Some(body) = options.to_body()? {
        client.put(&path, &body).await?;
    }
    client.get(&path).await
}

/// Promotes the fallback, or returns to the node's own volume: `verb` is the last part of the path.
pub(super) async fn run_verb(
    client: &Client,
    options: &FallbackVerbOptions,
    verb: &str,
) -> Result<Value, Box<dyn Error>> {
    let path = format!("/v1/nodes/{}/fallback/{verb}", encode_segment(&options.node));
    client.post(&path, &json!({})).await
}

/// The fallback in a few lines.
pub(super) fn describe(response: &Value) -> String {
    let (node, fallback) = (&response["node"], &response["fallback"]);
    let name = text(node["name"].as_str().map_or(&node["uuid"], |_| &node["name"]));
    if fallback.is_null() {
        let reason = response["obstacle"].as_str().map(|_| format!(": {}", text(&response["obstacle"])));
        return format!("node {name}: no fallback{}\n", reason.unwrap_or_default());
    }
    let source = match &fallback["target"] {
        Value::Null => format!("volume {}", text(&fallback["volume"])),
        Value::Array(paths) => paths.iter().map(text).collect::<Vec<_>>().join(" "),
        path => text(path),
    };
    let with_data = if fallback["with_data"] == true { ", with the data volumes" } else { "" };
    let in_force = &response["in_force"];
    let state = if in_force.is_null() {
        format!("{} of {} failed boots in a row", response["failed_boots"], response["fallback_after"])
    } else {
        format!(
            "in force since {}: the last {} boots of volume {} did not report up",
            format_time(&in_force["since"]),
            in_force["failed_boots"],
            text(&in_force["failed_volume"])
        )
    };
    let mut lines = format!("node {name}: fallback {source}{with_data}: {state}\n");
    if response["obstacle"].is_string() {
        lines += &format!("It cannot come into force: {}.\n", text(&response["obstacle"]));
    }
    if response["last_reset"].is_string() && in_force.is_null() {
        lines += &format!("The count was set to 0 last because: {}.\n", text(&response["last_reset"]));
    }
    lines
}
