//! `volboot store export`, `volboot store import` and `volboot store copy`: the backup of the records, and their move from
//! one kind of store to the other.
//!
//! An export holds CHAP secrets, so it goes to a file that only its owner can read, or to a pipe, never to a terminal.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::ConfigFile;
#[cfg(feature = "etcd")]
use super::store_copy;
use crate::app::{EXPORT_REQUEST, STORE_SOCKET};
use crate::config::{Config, StoreConfig, StoreKind};
use crate::store::{ExportReader, ImportedRecords, import};

/// The time-out of each read from the server.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The name that stands for standard input and standard output.
const STANDARD: &str = "-";

#[derive(Debug, Subcommand)]
pub(super) enum StoreCommand {
    /// Write all records of the running server to a file, for a backup
    Export(ExportOptions),
    /// Create the store from an export, while all servers on it are stopped
    Import(ImportOptions),
    /// Copy all records between the local file and etcd, while all servers are stopped
    Copy(CopyOptions),
}

#[derive(Debug, Args)]
pub(super) struct ExportOptions {
    /// The file, which is replaced; `-` for a pipe. It holds secrets
    file: PathBuf,
    /// The server's socket
    #[arg(long, value_name = "PATH", default_value = STORE_SOCKET)]
    socket: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ImportOptions {
    /// The export; `-` for standard input
    file: PathBuf,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Args)]
pub(super) struct CopyOptions {
    /// The kind of store that gets the records, and has none so far; the other one is the source. The configuration has
    /// the places of both: store.path and store.etcd
    #[arg(long, value_name = "KIND")]
    to: TargetKind,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TargetKind {
    Etcd,
    Redb,
}

/// Runs `volboot store`.
pub(super) fn run(command: &StoreCommand) -> Result<(), Box<dyn Error>> {
    match command {
        StoreCommand::Export(options) => export(options),
        StoreCommand::Import(options) => import_file(options),
        StoreCommand::Copy(options) => copy(options),
    }
}

fn export(options: &ExportOptions) -> Result<(), Box<dyn Error>> {
    let output = Output::open(&options.file)?;
    let socket = options.socket.display();
    let mut stream = UnixStream::connect(&options.socket).map_err(|error| {
        format!("cannot connect to {socket}: {error}; is volboot running, and are you root?")
    })?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.write_all(EXPORT_REQUEST)?;
    let mut reader = ExportReader::new(BufReader::new(Tee { input: stream, output }))?;
    while reader.next_record()?.is_some() {}
    let (records, revision) = (reader.records(), reader.header().revision);
    reader.into_inner().into_inner().output.finish()?;
    // Standard output may be the export.
    eprintln!("{records} records at revision {revision} exported");
    Ok(())
}

fn import_file(options: &ImportOptions) -> Result<(), Box<dyn Error>> {
    // The import needs no other file that the configuration names.
    let config = Config::load_blocking(options.config.config.as_deref(), |_| Vec::new())?;
    let input: Box<dyn Read> = if options.file == Path::new(STANDARD) {
        Box::new(io::stdin())
    } else {
        let file = File::open(&options.file);
        Box::new(file.map_err(|error| format!("cannot open {}: {error}", options.file.display()))?)
    };
    let reader = ExportReader::new(BufReader::new(input))?;
    let imported = match config.store.kind {
        StoreKind::Redb => import(&config.store.path, reader, || Ok(()))?,
        #[cfg(feature = "etcd")]
        StoreKind::Etcd => store_copy::import_to_etcd(&config.store, reader)?,
        #[cfg(not(feature = "etcd"))]
        StoreKind::Etcd => return Err(WITHOUT_ETCD.into()),
    };
    let place = describe_place(&config.store, config.store.kind);
    println!("{} records at revision {} imported into {place}", imported.records, imported.revision);
    Ok(())
}

fn copy(options: &CopyOptions) -> Result<(), Box<dyn Error>> {
    let config = Config::load_blocking(options.config.config.as_deref(), |_| Vec::new())?.store;
    let (from, to) = match options.to {
        TargetKind::Etcd => (StoreKind::Redb, StoreKind::Etcd),
        TargetKind::Redb => (StoreKind::Etcd, StoreKind::Redb),
    };
    config.check_etcd()?;
    let ImportedRecords { records, revision } = copy_records(&config, options.to)?;
    let (from, place) = (describe_place(&config, from), describe_place(&config, to));
    println!("{records} records at revision {revision} copied from {from} to {place}");
    Ok(())
}

#[cfg(feature = "etcd")]
fn copy_records(config: &StoreConfig, to: TargetKind) -> Result<ImportedRecords, Box<dyn Error>> {
    match to {
        TargetKind::Etcd => store_copy::copy_to_etcd(config),
        TargetKind::Redb => store_copy::copy_to_redb(config),
    }
}

#[cfg(not(feature = "etcd"))]
const WITHOUT_ETCD: &str = "this volboot was built without etcd";

#[cfg(not(feature = "etcd"))]
fn copy_records(_: &StoreConfig, _: TargetKind) -> Result<ImportedRecords, Box<dyn Error>> {
    Err(WITHOUT_ETCD.into())
}

fn describe_place(config: &StoreConfig, kind: StoreKind) -> String {
    match kind {
        StoreKind::Redb => config.path.display().to_string(),
        StoreKind::Etcd => format!("{} in etcd", config.etcd.prefix),
    }
}

/// The destination of an export.
enum Output {
    /// Standard output.
    Pipe(io::Stdout),
    /// A file that gets its name once the export is complete.
    File { file: File, unfinished: PathBuf, path: PathBuf },
}

impl Output {
    fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        if path == Path::new(STANDARD) {
            let stdout = io::stdout();
            if stdout.is_terminal() {
                return Err("an export holds secrets and is not written to a terminal".into());
            }
            return Ok(Self::Pipe(stdout));
        }
        // Also refuses /dev/stdout and other devices.
        match fs::symlink_metadata(path) {
            Ok(present) if !present.is_file() => {
                return Err(format!("{} is not a regular file", path.display()).into());
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("cannot write {}: {error}", path.display()).into());
            }
            _ => {}
        }
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        // Of an interrupted export. A new file cannot be another user's.
        let _ = fs::remove_file(&unfinished);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
        let file = file.map_err(|error| format!("cannot create {}: {error}", unfinished.display()))?;
        Ok(Self::File { file, unfinished, path: path.to_owned() })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(stdout) => stdout.write_all(bytes),
            Self::File { file, .. } => file.write_all(bytes),
        }
    }

    /// Makes the complete export durable under its name.
    fn finish(mut self) -> io::Result<()> {
        match &mut self {
            Self::Pipe(stdout) => stdout.flush(),
            Self::File { file, unfinished, path } => {
                file.sync_all()?;
                fs::rename(&*unfinished, &*path)?;
                let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
                File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
            }
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Self::File { unfinished, .. } = self {
            // After a complete export, the name does not exist any more.
            let _ = fs::remove_file(unfinished);
        }
    }
}

/// A reader that copies to the output.
struct Tee {
    input: UnixStream,
    output: Output,
}

impl Read for Tee {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.input.read(buffer)?;
        self.output.write_all(&buffer[..size])?;
        Ok(size)
    }
}
