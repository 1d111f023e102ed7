//! What people ask of a running volboot, by its API: how it is, what happens to machines, and a new one.
//!
//! Tables for people, `--json` for programs. Who asks is told by the environment (`VOLBOOT_USER` and `VOLBOOT_PASSWORD`,
//! or Keystone's `OS_TOKEN`), never on the command line, where every user of the host could read it.

mod client;
mod enroll;
mod follow;
mod tables;

use std::error::Error;

use clap::Args;
use serde_json::{Value, json};

use client::Client;
pub(super) use enroll::Enroll;

/// Where volboot is, and for whom the answer is.
#[derive(Debug, Args)]
pub(super) struct Asked {
    /// Where volboot's API is
    #[arg(long, value_name = "URL", env = "VOLBOOT_API", default_value = "http://127.0.0.1:6385")]
    api: String,
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// A node's name or UUID, or the MAC or IP address of any machine that was ever heard of
    node: String,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Debug, Args)]
pub(super) struct Follow {
    /// Only this machine: a MAC or IP address, or a node's name or UUID
    node: Option<String>,
    #[command(flatten)]
    asked: Asked,
}

/// `volboot status`
pub(super) fn status(asked: &Asked) -> Result<(), Box<dyn Error>> {
    let told = run(async { Client::new(&asked.api)?.get("/v1/appliance").await })?;
    print(asked, &told, tables::status)
}

/// `volboot nodes`
pub(super) fn nodes(asked: &Asked) -> Result<(), Box<dyn Error>> {
    let told = run(async {
        let client = Client::new(&asked.api)?;
        let nodes = client.all("/v1/nodes", "nodes").await?;
        let machines = client.all("/v1/machines", "machines").await?;
        Ok(json!({"nodes": nodes, "machines": machines}))
    })?;
    print(asked, &told, tables::nodes)
}

/// `volboot show`
pub(super) fn show(options: &Show) -> Result<(), Box<dyn Error>> {
    let told = run(async {
        let client = Client::new(&options.asked.api)?;
        let path = match options.node.parse::<crate::timeline::Key>() {
            Ok(machine) => format!("/v1/machines/{machine}"),
            Err(_) => format!("/v1/nodes/{}/boot-history", client::segment(&options.node)),
        };
        client.get(&path).await
    })?;
    print(&options.asked, &told, tables::history)
}

/// `volboot follow`
pub(super) fn follow(options: &Follow) -> Result<(), Box<dyn Error>> {
    let query = match &options.node {
        None => String::new(),
        Some(ident) if ident.parse::<crate::timeline::Key>().is_ok() => {
            format!("?machine={}", client::segment(ident))
        }
        Some(ident) => format!("?node={}", client::segment(ident)),
    };
    run(async {
        let client = Client::new(&options.asked.api)?;
        follow::follow(&client, &query, options.asked.json).await
    })
}

/// `volboot enroll`
pub(super) fn enroll(options: &Enroll) -> Result<(), Box<dyn Error>> {
    let told = run(async {
        let client = Client::new(&options.asked().api)?;
        client.post("/v1/enrollments", &options.body()?).await
    })?;
    print(options.asked(), &told, tables::enrolled)
}

fn run<T>(work: impl Future<Output = Result<T, Box<dyn Error>>>) -> Result<T, Box<dyn Error>> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn print(asked: &Asked, told: &Value, table: fn(&Value) -> String) -> Result<(), Box<dyn Error>> {
    use std::io::Write as _;
    let text = if asked.json { format!("{told:#}\n") } else { table(told) };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
