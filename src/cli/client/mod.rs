//! Subcommands that are clients of a running volboot's API: status, nodes, show, check, follow, enroll, boot,
//! boot-once, fallback, promote, retry, power and roll.
//!
//! Output is a table, or JSON with `--json`. Credentials come from the environment (`VOLBOOT_USER` and
//! `VOLBOOT_PASSWORD`, or Keystone's `OS_TOKEN`), never from the command line, which every user of the host can read.

mod boot;
mod boot_once;
mod check;
mod enroll;
mod failure;
mod fallback;
mod follow;
mod http;
mod machine;
mod power;
mod roll;
mod tables;
pub(super) mod terminal;

use std::error::Error;

use clap::Args;
use serde_json::{Value, json};

pub(super) use boot::BootOptions;
pub(super) use boot_once::BootOnceOptions;
pub(super) use check::{CheckOptions, check};
pub(super) use enroll::EnrollOptions;
pub(super) use failure::CommandFailure;
pub(super) use fallback::{FallbackOptions, FallbackVerbOptions};
use http::Client;
pub(super) use power::PowerCommandLine;
pub(super) use roll::RollOptions;

/// The options of all client subcommands.
#[derive(Debug, Args)]
pub(super) struct ApiOptions {
    /// URL of volboot's API
    #[arg(long, value_name = "URL", env = "VOLBOOT_API", default_value = "http://127.0.0.1:6385")]
    api: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ShowOptions {
    /// Name or UUID of a node, or MAC or IP address of a machine
    node: String,
    #[command(flatten)]
    api: ApiOptions,
}

#[derive(Debug, Args)]
pub(super) struct FollowOptions {
    /// Only this machine: name or UUID of a node, or MAC or IP address of a machine
    node: Option<String>,
    #[command(flatten)]
    api: ApiOptions,
}

/// `volboot status`
pub(super) fn status(options: &ApiOptions) -> Result<(), Box<dyn Error>> {
    let response = run(async { Client::new(&options.api)?.get("/v1/appliance").await })?;
    print(options, &response, tables::status)
}

/// `volboot nodes`
pub(super) fn nodes(options: &ApiOptions) -> Result<(), Box<dyn Error>> {
    let response = run(async {
        let client = Client::new(&options.api)?;
        let nodes = client.get_all("/v1/nodes", "nodes").await?;
        let machines = client.get_all("/v1/machines", "machines").await?;
        Ok(json!({"nodes": nodes, "machines": machines}))
    })?;
    print(options, &response, tables::nodes)
}

/// `volboot show`
pub(super) fn show(options: &ShowOptions) -> Result<(), Box<dyn Error>> {
    let response = run(async {
        let client = Client::new(&options.api.api)?;
        let path = match options.node.parse::<crate::timeline::MachineId>() {
            Ok(machine) => format!("/v1/machines/{machine}"),
            Err(_) => format!("/v1/nodes/{}/boot-history", http::encode_segment(&options.node)),
        };
        client.get(&path).await
    })?;
    print(&options.api, &response, tables::history)
}

/// `volboot follow`
pub(super) fn follow(options: &FollowOptions) -> Result<(), Box<dyn Error>> {
    let filter = options.node.as_deref().map(|ident| match ident.parse::<crate::timeline::MachineId>() {
        Ok(_) => ("machine", ident),
        Err(_) => ("node", ident),
    });
    run(async {
        let client = Client::new(&options.api.api)?;
        follow::follow(&client, filter.as_slice(), options.api.json).await
    })
}

/// `volboot boot`
pub(super) fn boot(options: &BootOptions) -> Result<(), Box<dyn Error>> {
    run(async { boot::run(&connect(&options.api)?, options).await })
}

/// `volboot boot-once`
pub(super) fn boot_once(options: &BootOnceOptions) -> Result<(), Box<dyn Error>> {
    let response = run(async { boot_once::run(&connect(options.api())?, options).await })?;
    print(options.api(), &response, boot_once::describe)
}

/// `volboot fallback`
pub(super) fn fallback(options: &FallbackOptions) -> Result<(), Box<dyn Error>> {
    let response = run(async { fallback::run(&connect(options.api())?, options).await })?;
    print(options.api(), &response, fallback::describe)
}

/// `volboot promote`
pub(super) fn promote(options: &FallbackVerbOptions) -> Result<(), Box<dyn Error>> {
    let response = run(async { fallback::run_verb(&connect(options.api())?, options, "promote").await })?;
    print(options.api(), &response, fallback::describe)
}

/// `volboot retry`
pub(super) fn retry(options: &FallbackVerbOptions) -> Result<(), Box<dyn Error>> {
    let response = run(async { fallback::run_verb(&connect(options.api())?, options, "retry").await })?;
    print(options.api(), &response, fallback::describe)
}

/// `volboot power`
pub(super) fn power(command: &PowerCommandLine) -> Result<(), Box<dyn Error>> {
    run(async { power::run(&connect(command.api())?, command).await })
}

/// `volboot roll`
pub(super) fn roll(options: &RollOptions) -> Result<(), Box<dyn Error>> {
    run(async { roll::run(&connect(&options.api)?, options).await })
}

fn connect(options: &ApiOptions) -> Result<Client, Box<dyn Error>> {
    Client::new(&options.api)
}

/// `volboot enroll`
pub(super) fn enroll(options: &EnrollOptions) -> Result<(), Box<dyn Error>> {
    let response = run(async {
        let client = Client::new(&options.api().api)?;
        client.post("/v1/enrollments", &options.to_body()?).await
    })?;
    print(options.api(), &response, tables::enrollment)
}

fn run<T>(command: impl Future<Output = Result<T, Box<dyn Error>>>) -> Result<T, Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}

fn print(
    options: &ApiOptions,
    response: &Value,
    format_table: fn(&Value) -> String,
) -> Result<(), Box<dyn Error>> {
    use std::io::Write as _;
    let text =
        if options.json { terminal::clean_json(&format!("{response:#}\n")) } else { format_table(response) };
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader of the pipe has exited, as `head` does.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}
