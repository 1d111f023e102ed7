//! `volboot power`: switches a node through its BMC.

use std::error::Error;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use tokio::time::Instant;

use super::ApiOptions;
use super::http::Client;
use super::machine::{NodeMachine, parse_duration};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PowerCommandLine {
    /// Switch the node on
    On(PowerOptions),
    /// Switch the node off
    Off(PowerOptions),
    /// Switch the node off and on
    Reboot(PowerOptions),
    /// Print the power state that the BMC showed last
    Status(PowerStatusOptions),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PowerOptions {
    /// Name or UUID of a node
    node: String,
    /// Let the operating system shut down or restart (off, reboot)
    #[arg(long)]
    soft: bool,
    /// Time limit, such as 90s or 20m
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct PowerStatusOptions {
    /// Name or UUID of a node
    node: String,
    #[command(flatten)]
    api: ApiOptions,
}

impl PowerCommandLine {
    pub(super) fn api(&self) -> &ApiOptions {
        match self {
            Self::On(options) | Self::Off(options) | Self::Reboot(options) => &options.api,
            Self::Status(options) => &options.api,
        }
    }
}

pub(super) async fn run(client: &Client, command: &PowerCommandLine) -> Result<(), Box<dyn Error>> {
    let (options, target) = match command {
        PowerCommandLine::Status(options) => {
            let machine = NodeMachine::find(client, &options.node).await?;
            let state = machine.read("/states").await?["power_state"].clone();
            print(&options.node, state.as_str().unwrap_or("unknown"), options.api.json);
            return Ok(());
        }
        PowerCommandLine::On(options) => (options, "power on"),
        PowerCommandLine::Off(options) if options.soft => (options, "soft power off"),
        PowerCommandLine::Off(options) => (options, "power off"),
        PowerCommandLine::Reboot(options) if options.soft => (options, "soft rebooting"),
        PowerCommandLine::Reboot(options) => (options, "rebooting"),
    };
    let deadline = Instant::now() + options.timeout;
    let machine = NodeMachine::find(client, &options.node).await?;
    let soft_limit = options.soft.then_some(options.timeout);
    machine.start_power_change(target, soft_limit).await?;
    let state = machine.finish_power_change(deadline).await?;
    print(&options.node, &state, options.api.json);
    Ok(())
}

fn print(node: &str, state: &str, json: bool) {
    if json {
        println!("{}", json!({"node": node, "power_state": state}));
    } else {
        println!("node {node}: {state}");
    }
}
