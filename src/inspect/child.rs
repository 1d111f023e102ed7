//! The inspecting process: the body of the subcommand `inspect-volume`.
//!
//! Its standard input is the stream socket to the parent, and its only link to anything. The sandbox is complete before
//! the first byte of the volume is read.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use super::protocol::{ParentSource, send_report};
use super::sandbox;
use super::survey::survey;
use super::volume::Volume;

/// Inspects a volume of `size` bytes, whose bytes the parent sends, and sends the report to the parent. `loader` is a path to
/// look for beside the usual ones.
pub fn run(size: u64, block_size: u32, loader: Option<&str>) -> io::Result<()> {
    sandbox::close_inherited_descriptors();
    let requests = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let report = requests.try_clone()?;
    sandbox::enter()?;
    let volume = Volume::new(Box::new(ParentSource(requests)), size, block_size);
    send_report(report, &survey(&volume, loader))
}
