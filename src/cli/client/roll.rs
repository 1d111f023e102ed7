//! `volboot roll`: boots many nodes, some at a time, and stops after failures.

use std::error::Error;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::time::Instant;

use super::ApiOptions;
use super::boot::{Reporter, boot};
use super::failure::CommandFailure;
use super::http::Client;
use super::machine::parse_duration;

#[derive(Debug, Args)]
pub(in crate::cli) struct RollOptions {
    /// Names or UUIDs of nodes
    #[arg(required = true)]
    nodes: Vec<String>,
    /// Nodes that boot at a time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    at_once: u16,
    /// Failures after which no further node is restarted
    #[arg(long, value_name = "M", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    stop_after: u16,
    /// Time limit for each node, such as 90s or 20m
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    pub(super) api: ApiOptions,
}

pub(super) async fn run(client: &Client, options: &RollOptions) -> Result<(), Box<dyn Error>> {
    let reporter = Reporter { json: options.api.json, names_node: true };
    let failures = std::cell::Cell::new(0_u16);
    let boots = stream::iter(&options.nodes).map(|node| {
        let failures = &failures;
        async move {
            // A node whose turn comes after the last permitted failure is left as it is.
            if failures.get() >= options.stop_after {
                return (node, None);
            }
            let deadline = Instant::now() + options.timeout;
            let result = boot(client, node, deadline, true, reporter).await;
            if result.is_err() {
                failures.set(failures.get().saturating_add(1));
            }
            (node, Some(result))
        }
    });
    let mut boots = std::pin::pin!(boots.buffer_unordered(options.at_once.into()));
    let (mut up, mut untouched) = (0, 0);
    while let Some((node, result)) = boots.next().await {
        match result {
            None => untouched += 1,
            Some(Ok(verdict)) => {
                up += 1;
                reporter.report(node, "verdict", &verdict);
            }
            Some(Err(failure @ CommandFailure::NotReached(_))) => return Err(failure.into()),
            Some(Err(failure)) => reporter.report(node, "failed", &failure.to_string()),
        }
    }
    match failures.get() {
        0 => Ok(()),
        failed => Err(CommandFailure::Stopped(format!(
            "{failed} of {} nodes failed, {up} are up, {untouched} were left as they are",
            options.nodes.len()
        ))
        .into()),
    }
}
