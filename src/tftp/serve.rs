//! The door on the `async-tftp` crate: files from memory, and limits tight enough for a boot storm.
//!
//! The crate ignores a client's ERROR, so what a size probe leaves behind lives until its retries are used up: a
//! second each, and few of them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_tftp::packet;
use async_tftp::server::{Handler, TftpServerBuilder};
use bytes::Bytes;
use futures_lite::AsyncRead;
use futures_lite::io::{Cursor, Sink};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Event, Files, Outcome, ReadRequest, names};

/// EDK2 asks for it, and with it a block, its headers and a VLAN tag fit an Ethernet frame of 1500 bytes.
const BLOCK_SIZE: u16 = 1468;
/// Blocks in flight to one client.
const WINDOW: u16 = 16;
/// Until a block is sent again, and how often that is tried.
const TIMEOUT: Duration = Duration::from_secs(1);
const RETRIES: u32 = 5;
/// Transfers at once. Each holds a socket.
const TRANSFERS: usize = 512;

/// A UDP socket that is bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: UdpSocket,
}

impl Listener {
    /// Binds.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: UdpSocket::bind(address)? })
    }

    /// The address it is bound to, with the port that port 0 became.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop`, then lets running transfers end, for at most `grace`.
    pub async fn serve(
        self,
        files: Arc<dyn Files>,
        events: mpsc::Sender<Event>,
        stop: CancellationToken,
        grace: Duration,
    ) -> Result<(), async_tftp::Error> {
        let transfers = Arc::new(Semaphore::new(TRANSFERS));
        let door = Door { files, events, transfers: Arc::clone(&transfers), stop: stop.clone() };
        let server = TftpServerBuilder::with_handler(door)
            .std_socket(self.socket)?
            .timeout(TIMEOUT)
            .max_send_retries(RETRIES)
            .ignore_client_timeout()
            .block_size_limit(BLOCK_SIZE)
            .window_size_limit(WINDOW)
            .build()
            .await?;
        let drained = async {
            stop.cancelled().await;
            // The door refuses newcomers now; every permit is back when the last transfer has ended.
            let _ = tokio::time::timeout(grace, transfers.acquire_many(TRANSFERS as u32)).await;
        };
        tokio::select! {
            ended = server.serve() => ended,
            () = drained => Ok(()),
        }
    }
}

struct Door {
    files: Arc<dyn Files>,
    events: mpsc::Sender<Event>,
    transfers: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Handler for Door {
    type Reader = Transfer;
    type Writer = Sink;

    async fn read_req_open(
        &mut self,
        client: &SocketAddr,
        path: &Path,
    ) -> Result<(Transfer, Option<u64>), packet::Error> {
        let began = Instant::now();
        let name = String::from_utf8_lossy(path.as_os_str().as_bytes()).into_owned();
        let tell = |outcome| {
            let event =
                Event { client: *client, name: name.clone(), outcome, size: 0, took: began.elapsed() };
            let _ = self.events.try_send(event);
        };
        let permit = Arc::clone(&self.transfers).try_acquire_owned();
        let Some(permit) = permit.ok().filter(|_| !self.stop.is_cancelled()) else {
            tell(Outcome::Busy);
            return Err(packet::Error::Msg("busy, ask again".into()));
        };
        let content = names::canonical(path.as_os_str().as_bytes()).and_then(|name| {
            self.files.read(ReadRequest { name: &name, client: *client, local: local_towards(*client) })
        });
        let Some(content) = content else {
            tell(Outcome::NotFound);
            return Err(packet::Error::FileNotFound);
        };
        let size = content.len() as u64;
        let event = Event { client: *client, name, outcome: Outcome::Aborted, size, took: Duration::ZERO };
        let transfer = Transfer {
            content: Cursor::new(content),
            began,
            event,
            events: self.events.clone(),
            _permit: permit,
        };
        Ok((transfer, Some(size)))
    }

    async fn write_req_open(
        &mut self,
        _: &SocketAddr,
        _: &Path,
        _: Option<u64>,
    ) -> Result<Sink, packet::Error> {
        Err(packet::Error::PermissionDenied)
    }
}

/// The address of ours that a client sees: the one the kernel would speak to it from.
fn local_towards(client: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match client {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connecting a UDP socket sends nothing.
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(client).ok()?;
    socket.local_addr().ok().map(|local| local.ip().to_canonical())
}

/// A file on its way. When it is dropped, the transfer has ended: completely, if all of it was read.
struct Transfer {
    content: Cursor<Bytes>,
    began: Instant,
    event: Event,
    events: mpsc::Sender<Event>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for Transfer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.content).poll_read(context, buffer)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        let mut event = self.event.clone();
        if self.content.position() == event.size {
            event.outcome = Outcome::Complete;
        }
        event.took = self.began.elapsed();
        let _ = self.events.try_send(event);
    }
}
