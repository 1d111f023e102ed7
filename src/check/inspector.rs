//! The parent of the inspecting process: starts it without environment and descriptors, and answers its requests for
//! blocks from the session.
//!
//! The process counts as taken over by the volume's tenant: its requests are checked and bounded, and its report is
//! text to be cleaned.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::inspect::{ChildMessage, Contents, MAX_REQUEST, encode_blocks, read_message};
use crate::iscsi::{Error, IscsiSession, LogicalUnit};
use crate::model::LoaderPath;

/// The most requests: those for 64 MiB, and some for the parts of chunks.
const MAX_REQUESTS: usize = 1100;
/// The longest path in a report.
const MAX_PATH: usize = 255;

/// Inspects the content of a logical unit. An error is the reason why nothing is known.
pub(super) async fn inspect(
    program: &Path,
    session: &mut IscsiSession,
    lun: [u8; 8],
    unit: &LogicalUnit,
    loader: Option<&LoaderPath>,
    limit: Duration,
) -> Result<Contents, String> {
    let (mut stream, mut child) =
        spawn(program, unit, loader).map_err(|error| format!("the inspection cannot start: {error}"))?;
    let result = match timeout(limit, serve(&mut stream, session, lun, unit)).await {
        Ok(Ok(contents)) => Ok(clean(contents)),
        Ok(Err(Failure::Volume(error))) => Err(format!("the content cannot be read: {error}")),
        Ok(Err(Failure::Process)) => Err("the inspection of the content failed".to_owned()),
        Err(_) => Err("the inspection of the content took too long".to_owned()),
    };
    let _ = child.kill().await;
    result
}

fn spawn(
    program: &Path,
    unit: &LogicalUnit,
    loader: Option<&LoaderPath>,
) -> std::io::Result<(UnixStream, Child)> {
    let (own, other) = StdStream::pair()?;
    own.set_nonblocking(true)?;
    let size = unit.blocks.saturating_mul(unit.block_size.into());
    let mut command = Command::new(program);
    command.arg("inspect-volume").arg(size.to_string()).arg(unit.block_size.to_string());
    command.args(loader.map(ToString::to_string));
    command.env_clear().current_dir("/").kill_on_drop(true);
    command.stdin(Stdio::from(OwnedFd::from(other))).stdout(Stdio::null()).stderr(Stdio::null());
    Ok((UnixStream::from_std(own)?, command.spawn()?))
}

/// Why an inspection failed.
enum Failure {
    /// The volume cannot be read.
    Volume(Error),
    /// The process ended without a report, or broke the protocol.
    Process,
}

impl From<std::io::Error> for Failure {
    fn from(_: std::io::Error) -> Self {
        Self::Process
    }
}

/// Answers requests until the report arrives.
async fn serve(
    stream: &mut UnixStream,
    session: &mut IscsiSession,
    lun: [u8; 8],
    unit: &LogicalUnit,
) -> Result<Contents, Failure> {
    let block_size = u64::from(unit.block_size);
    for _ in 0..MAX_REQUESTS {
        let mut header = [0; 13];
        stream.read_exact(&mut header).await?;
        let (offset, length) = match read_message(header)? {
            ChildMessage::Request { offset, length } => (offset, length),
            ChildMessage::Report(length) => {
                let mut json = vec![0; length as usize];
                stream.read_exact(&mut json).await?;
                return serde_json::from_slice(&json).map_err(|_| Failure::Process);
            }
        };
        let (block, count) = (offset / block_size, length / unit.block_size);
        let is_whole = offset % block_size == 0 && length % unit.block_size == 0 && length <= MAX_REQUEST;
        if !is_whole || block.checked_add(count.into()).is_none_or(|end| end > unit.blocks) {
            return Err(Failure::Process);
        }
        let blocks = session.read(lun, unit.block_size, block, count).await.map_err(Failure::Volume)?;
        stream.write_all(&encode_blocks(Some(&blocks))).await?;
    }
    Err(Failure::Process)
}

/// Keeps what can be shown: loaders whose paths a record accepts, and printable paths.
fn clean(mut contents: Contents) -> Contents {
    contents.loaders.retain(|loader| loader.path.parse::<LoaderPath>().is_ok());
    for kernel in &mut contents.kernels {
        kernel.kernel = clean_text(&kernel.kernel);
        kernel.initramfs = kernel.initramfs.as_deref().map(clean_text);
    }
    for file_system in &mut contents.file_systems {
        file_system.fault = file_system.fault.as_deref().map(clean_text);
    }
    contents
}

/// The text with `?` for unusual characters, cut to a bearable length.
pub(super) fn clean_text(text: &str) -> String {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    text.chars().take(MAX_PATH).map(printable).collect()
}
