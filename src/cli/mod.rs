//! The command line: parses arguments, runs the subcommand, and maps errors to exit codes.

mod client;
mod generate;
mod images;
mod store;
#[cfg(feature = "etcd")]
mod store_copy;

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::app::{
    App, PassedSockets, StartError, find_missing_capability, find_missing_interfaces, find_unnamed_networks,
    load_config_blocking, raise_descriptor_limit,
};
use crate::config::{Config, DEFAULT_PATH};
use crate::inspect;
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
    /// Run the server: TFTP, boot listener and API
    Serve(ConfigFile),
    /// Check the configuration file and print all errors and warnings
    CheckConfig(ConfigFile),
    /// List the iPXE binaries of this host, and the missing ones
    Images(images::Options),
    /// Show the status of the running server
    Status(client::ApiOptions),
    /// List nodes and unknown machines, with the result of their last boots
    Nodes(client::ApiOptions),
    /// Show the boot timeline of a node or machine
    Show(client::ShowOptions),
    /// Check the volumes of a node: portals, login, size, and what boots from them; changes nothing
    Check(client::CheckOptions),
    /// Print boot events as they happen
    Follow(client::FollowOptions),
    /// Create a node with port, connector and boot volume, in one transaction
    Enroll(client::EnrollOptions),
    /// Boot a node from the network: set its boot device, switch it on or restart it, and follow the boot to its end
    Boot(client::BootOptions),
    /// Set what a node boots at its next boot, once; without a source, print what is set
    BootOnce(client::BootOnceOptions),
    /// Set the volume that a node boots from after its own failed several times; without a source, print what is set
    Fallback(client::FallbackOptions),
    /// Let a node's boot volume and its fallback change places for good
    Promote(client::FallbackVerbOptions),
    /// Boot a node from its own volume again the next time, and not from its fallback
    Retry(client::FallbackVerbOptions),
    /// Switch a node with a BMC
    #[command(subcommand)]
    Power(client::PowerCommandLine),
    /// Boot many nodes like `boot`, some at a time, and stop after failures
    Roll(client::RollOptions),
    /// Back up, restore and move the records
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Inspect the content of a volume for `volboot serve`, which sends it through standard input
    #[command(hide = true)]
    InspectVolume {
        /// Bytes of the volume
        size: u64,
        /// Bytes of a block
        block_size: u32,
        /// Path of a boot loader to look for
        loader: Option<String>,
    },
    /// Write man pages and shell completions, for packages
    #[command(hide = true)]
    Generate {
        /// Output directory
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// Configuration file [default: /etc/volboot/volboot.toml, if it exists]
    #[arg(long, value_name = "FILE", env = "VOLBOOT_CONFIG")]
    config: Option<PathBuf>,
}

/// The exit code if the store is damaged, or this version cannot use it; in the unit file as `RestartPreventExitStatus`.
const STORE_UNUSABLE: u8 = 3;
/// The time-out for running reads of files after the shutdown.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs the subcommand. Exit codes: 0 success; 1 failure; 2 invalid command line; 3 the store is damaged or
/// cannot be used by this version, so a restart would not help. `check` and the commands that switch machines have further
/// ones: [`client::CommandFailure`].
pub fn run() -> ExitCode {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("volboot: {}", format_error(&*error));
            if let Some(failure) = error.downcast_ref::<client::CommandFailure>() {
                return failure.code().into();
            }
            match error.downcast_ref() {
                Some(StartError::Store(error)) if error.is_permanent() => STORE_UNUSABLE.into(),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Check(options) => client::check(&options),
        command => execute(command).map(|()| ExitCode::SUCCESS),
    }
}

/// Executes a subcommand that knows success and failure only.
fn execute(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Check(options) => client::check(&options).map(drop),
        Command::InspectVolume { size, block_size, loader } => {
            Ok(inspect::run_child(size, block_size, loader.as_deref())?)
        }
        Command::Serve(file) => {
            telemetry::log::init();
            let config = load_config_blocking(file.config.as_deref())?;
            telemetry::log::configure(&config.log);
            serve(config, file.config, PassedSockets::take()?)
        }
        Command::CheckConfig(file) => {
            let config = load_config_blocking(file.config.as_deref())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let routed = runtime.block_on(find_unnamed_networks(&config));
            let missing =
                find_missing_interfaces(&config).into_iter().chain(find_missing_capability(&config));
            for warning in config.warnings().into_iter().chain(routed).chain(missing) {
                println!("warning: {warning}");
            }
            match file.config {
                None if !Path::new(DEFAULT_PATH).exists() => {
                    println!("{DEFAULT_PATH} does not exist: the defaults apply");
                }
                path => println!(
                    "{}: the configuration is valid",
                    path.unwrap_or_else(|| DEFAULT_PATH.into()).display()
                ),
            }
            Ok(())
        }
        Command::Images(options) => images::list(&options),
        Command::Status(options) => client::status(&options),
        Command::Nodes(options) => client::nodes(&options),
        Command::Show(options) => client::show(&options),
        Command::Follow(options) => client::follow(&options),
        Command::Enroll(options) => client::enroll(&options),
        Command::Boot(options) => client::boot(&options),
        Command::BootOnce(options) => client::boot_once(&options),
        Command::Fallback(options) => client::fallback(&options),
        Command::Promote(options) => client::promote(&options),
        Command::Retry(options) => client::retry(&options),
        Command::Power(command) => client::power(&command),
        Command::Roll(options) => client::roll(&options),
        Command::Store(command) => store::run(&command),
        Command::Generate { directory } => Ok(generate::write(Cli::command(), &directory)?),
    }
}

/// Serves until SIGTERM or SIGINT.
fn serve(config: Config, file: Option<PathBuf>, passed: PassedSockets) -> Result<(), Box<dyn Error>> {
    // Before the runtime, which needs descriptors.
    raise_descriptor_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (app, reload) = {
        let _context = runtime.enter();
        // Before the sockets are bound, so that no early signal is lost.
        let (stop, reload) = handle_signals()?;
        (App::open_blocking(config, file, passed, stop)?, reload)
    };
    let result = runtime.block_on(app.run(reload));
    // A hanging read of a file must not keep the process alive. All that has to be written is written by now.
    runtime.shutdown_timeout(READ_TIMEOUT);
    Ok(result?)
}

/// SIGTERM and SIGINT cancel the token; SIGHUP notifies of a reload.
fn handle_signals() -> io::Result<(CancellationToken, Arc<Notify>)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (stop, reload) = (CancellationToken::new(), Arc::new(Notify::new()));
    tokio::spawn({
        let stop = stop.clone();
        async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            stop.cancel();
        }
    });
    tokio::spawn({
        let reload = Arc::clone(&reload);
        async move {
            while hangup.recv().await.is_some() {
                reload.notify_one();
            }
        }
    });
    Ok((stop, reload))
}

/// Formats an error for the terminal. A part of it may be a text of the server or of a file.
fn format_error(error: &dyn Error) -> String {
    let lines: Vec<_> = format_chain(error).lines().map(client::terminal::clean).collect();
    lines.join("\n")
}

/// Formats an error and its causes on one line.
fn format_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
