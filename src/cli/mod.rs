//! The command line.

mod generate;
mod images;
mod people;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Passed, StartError};
use crate::config::{Config, ConfigError, DEFAULT_PATH};
use crate::keystone::{self, Surroundings};
use crate::telemetry;

/// Boots bare machines from block-storage volumes.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve machines and people until told to stop
    Serve(ConfigFile),
    /// Read the configuration and tell all that is wrong with it
    CheckConfig(ConfigFile),
    /// Show the iPXE binaries of this host, and what is missing for which machines
    Images(images::Options),
    /// Tell how the running volboot is
    Status(people::Asked),
    /// List nodes and unknown machines, with what became of their last boots
    Nodes(people::Asked),
    /// Show a machine's timeline
    Show(people::Show),
    /// Tell what happens, while it happens
    Follow(people::Follow),
    /// Create a node with all it needs to boot, in one step or not at all
    Enroll(people::Enroll),
    /// Write the man pages and the shells' completions, for packages
    #[command(hide = true)]
    Generate {
        /// Where to
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file [default: /etc/volboot/volboot.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "VOLBOOT_CONFIG")]
    config: Option<PathBuf>,
}

/// The exit code if the store is one that this version cannot use; the unit file has it.
const STORE_UNUSABLE: u8 = 3;

/// Does what the command line says. Exit code 0: done; 1: it failed; 2: the command line is wrong; 3: the store is one
/// that this version cannot use, and starting again would not help.
pub fn run() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("volboot: {}", chain(&*error));
            match error.downcast_ref() {
                Some(StartError::Store(error)) if error.stays() => STORE_UNUSABLE.into(),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn dispatch(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Serve(file) => {
            telemetry::log::init();
            let config = load(file.config.as_deref())?;
            telemetry::log::configure(&config.log);
            let passed = Passed::take()?;
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(serve(config, file.config, passed))
        }
        Command::CheckConfig(file) => {
            load(file.config.as_deref())?;
            match file.config {
                None if !Path::new(DEFAULT_PATH).exists() => {
                    println!("there is no {DEFAULT_PATH}: the defaults hold");
                }
                chosen => println!("{}: no faults", chosen.unwrap_or_else(|| DEFAULT_PATH.into()).display()),
            }
            Ok(())
        }
        Command::Images(options) => images::show(&options),
        Command::Status(asked) => people::status(&asked),
        Command::Nodes(asked) => people::nodes(&asked),
        Command::Show(options) => people::show(&options),
        Command::Follow(options) => people::follow(&options),
        Command::Enroll(options) => people::enroll(&options),
        Command::Generate { directory } => Ok(generate::write(Cli::command(), &directory)?),
    }
}

/// Reads the configuration, with what it leads to: clouds.yaml, files of secrets.
fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    Config::load(file, |config| keystone::faults(config, &Surroundings::here()))
}

async fn serve(config: Config, file: Option<PathBuf>, passed: Passed) -> Result<(), Box<dyn Error>> {
    // Before anything is bound: a signal that comes early is not lost.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let app = App::new(config, passed)?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
    });
    let (reload, reloads) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            let _ = reload.send(load(file.as_deref())).await;
        }
    });
    app.run(stop, reloads).await?;
    Ok(())
}

/// An error and what caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
