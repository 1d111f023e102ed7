//! `volboot store copy`, and the import into etcd: between the local file and etcd, while no instance runs.
//!
//! A copy is an export that is imported at the same time, through a socket pair: number and digest of the records are
//! those of every export.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;

use tokio::runtime::Runtime;

use crate::config::StoreConfig;
use crate::store::{
    CopyStep, EtcdSource, ExportReader, ImportedRecords, Snapshot, StoppedStore, export_snapshot, import,
    import_into_etcd,
};

/// Records between two lines of progress.
const PROGRESS: u64 = 10_000;

/// Copies all records from the file into the empty prefix in etcd.
pub(super) fn copy_to_etcd(config: &StoreConfig) -> Result<ImportedRecords, Box<dyn Error>> {
    let runtime = build_runtime()?;
    let source = StoppedStore::open_blocking(&config.path)?;
    let export = spawn_export(&runtime, source.snapshot()?)?;
    fill_etcd(&runtime, config, export)
}

/// Copies all records from etcd into a new file.
pub(super) fn copy_to_redb(config: &StoreConfig) -> Result<ImportedRecords, Box<dyn Error>> {
    let runtime = build_runtime()?;
    let source = runtime.block_on(EtcdSource::open(config.etcd.clone()))?;
    let export = spawn_export(&runtime, source.snapshot())?;
    let confirm = || runtime.block_on(source.check_unchanged());
    Ok(import(&config.path, export, confirm)?)
}

/// Imports an export into the empty prefix in etcd.
pub(super) fn import_to_etcd<R: BufRead>(
    config: &StoreConfig,
    export: ExportReader<R>,
) -> Result<ImportedRecords, Box<dyn Error>> {
    fill_etcd(&build_runtime()?, config, export)
}

fn fill_etcd<R: BufRead>(
    runtime: &Runtime,
    config: &StoreConfig,
    export: ExportReader<R>,
) -> Result<ImportedRecords, Box<dyn Error>> {
    let mut reported = 0;
    let mut report = |step| match step {
        CopyStep::Written(records) if records >= reported + PROGRESS => {
            eprintln!("{records} records written");
            reported = records;
        }
        CopyStep::Verified => eprintln!("all records read back and verified"),
        CopyStep::Marked | CopyStep::Written(_) | CopyStep::Finished => {}
    };
    let imported = import_into_etcd(config.etcd.clone(), &config.path, export, &mut report);
    Ok(runtime.block_on(imported)?)
}

/// A runtime whose threads are not this one, which blocks.
fn build_runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// Exports the snapshot on the runtime; the reader is for this thread.
fn spawn_export(
    runtime: &Runtime,
    snapshot: Box<dyn Snapshot>,
) -> Result<ExportReader<BufReader<UnixStream>>, Box<dyn Error>> {
    let (reader, writer) = UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    let mut writer = {
        let _context = runtime.enter();
        tokio::net::UnixStream::from_std(writer)?
    };
    // The reader reports a failure: the stream then ends early, or with the cause.
    runtime.spawn(async move { export_snapshot(&*snapshot, &mut writer).await });
    Ok(ExportReader::new(BufReader::new(reader))?)
}
