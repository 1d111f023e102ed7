//! Writes an export of a store, page by page.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::{ErrorLine, ExportHeader, FORMAT, RecordLine, TrailerLine, VERSION};
use crate::store::contract::{Record, Snapshot, Store, StoreError};

/// Records for each read of the store.
const PAGE: usize = 500;
/// The time-out for each write: a reader that stops must not keep the snapshot.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// An export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The export cannot be written.
    #[error("cannot write the export")]
    Write(#[from] io::Error),
}

/// Writes the records of one revision to `out`; returns their number.
///
/// A failure of the store is written as the last line, so that the reader shows the cause.
pub async fn export(store: &dyn Store, out: &mut (impl AsyncWrite + Unpin)) -> Result<u64, ExportError> {
    let writer = ExportWriter { out, digest: Sha256::new(), records: 0 };
    match store.snapshot().await {
        Ok(snapshot) => finish(&*snapshot, writer).await,
        Err(error) => fail(error, writer).await,
    }
}

/// Writes the records of a snapshot, like [`export`].
pub async fn export_snapshot(
    snapshot: &dyn Snapshot,
    out: &mut (impl AsyncWrite + Unpin),
) -> Result<u64, ExportError> {
    finish(snapshot, ExportWriter { out, digest: Sha256::new(), records: 0 }).await
}

async fn finish<W: AsyncWrite + Unpin>(
    snapshot: &dyn Snapshot,
    mut writer: ExportWriter<'_, W>,
) -> Result<u64, ExportError> {
    match write_records(snapshot, &mut writer).await {
        Ok(()) => writer.finish().await,
        Err(ExportError::Store(error)) => fail(error, writer).await,
        Err(error) => Err(error),
    }
}

async fn fail<W: AsyncWrite + Unpin>(
    error: StoreError,
    mut writer: ExportWriter<'_, W>,
) -> Result<u64, ExportError> {
    writer.write(&encode_line(&ErrorLine { error: error.to_string() })).await?;
    Err(error.into())
}

async fn write_records<W: AsyncWrite + Unpin>(
    snapshot: &dyn Snapshot,
    writer: &mut ExportWriter<'_, W>,
) -> Result<(), ExportError> {
    let (schema, revision) = (snapshot.schema(), snapshot.revision());
    let header = ExportHeader { format: FORMAT.into(), version: VERSION, schema, revision };
    writer.write(&encode_line(&header)).await?;
    let mut after = None;
    loop {
        let page = snapshot.list(after.as_deref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(last.key.clone());
        writer.records += page.len() as u64;
        let lines: Vec<u8> =
            page.into_iter().flat_map(|record| encode_line(&encode_record(record))).collect();
        writer.write(&lines).await?;
    }
}

fn encode_record(record: Record) -> RecordLine {
    let Record { key, revision, value } = record;
    match String::from_utf8(value) {
        Ok(text) => RecordLine { key, revision, text: Some(text), base64: None },
        Err(error) => {
            RecordLine { key, revision, text: None, base64: Some(STANDARD.encode(error.as_bytes())) }
        }
    }
}

/// Encodes a line with its end.
fn encode_line(line: &impl Serialize) -> Vec<u8> {
    // Cannot fail: the lines are structures of texts and numbers.
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The output, and what its last line needs.
struct ExportWriter<'a, W> {
    out: &'a mut W,
    digest: Sha256,
    records: u64,
}

impl<W: AsyncWrite + Unpin> ExportWriter<'_, W> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.digest.update(bytes);
        timeout(WRITE_TIMEOUT, self.out.write_all(bytes))
            .await
            .map_err(|_| io::ErrorKind::TimedOut.into())
            .flatten()?;
        Ok(())
    }

    async fn finish(mut self) -> Result<u64, ExportError> {
        let sha256 = format_digest(&self.digest);
        self.write(&encode_line(&TrailerLine { records: self.records, sha256 })).await?;
        self.out.flush().await?;
        Ok(self.records)
    }
}

/// The digest in hexadecimal.
pub(super) fn format_digest(digest: &Sha256) -> String {
    digest.clone().finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}
