//! A UDP socket with what the kernel offers to a server of many clients.
//!
//! Datagrams are received in batches, each with the address of ours it was sent to (the answer has to leave from there); a whole window leaves in one call where the kernel cuts it into datagrams (UDP
//! segmentation offload), else datagram by datagram.
//!
//! Invariant: the DF bit is never set, since some ROMs choke on it: quinn-udp asks for path MTU probing, which is taken
//! back at once. Blocks fit the interface's MTU, so nothing is fragmented at home.

use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Type};
use tokio::io::Interest;

use super::table::Parcel;

/// Datagrams taken from the kernel at once.
const BATCH: usize = 32;
/// Room for one: requests have up to 512 bytes (RFC 2347 §2), and the kernel may join a few of one client's.
const ROOM: usize = 2048;
/// Asked of the kernel, which may give less: a boot storm comes within milliseconds.
const BUFFER: usize = 4 << 20;
/// The kernel cuts up to one IP packet's worth in one call.
const LARGEST_SEND: usize = 65_000;

/// Binds a socket, to IPv6 only if that is its family: then `0.0.0.0` and `::` can stand side by side.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    adopt(socket.into())
}

/// Prepares a socket that is bound already. One for IPv6 takes no IPv4, as its transfers could not either.
pub(super) fn adopt(socket: UdpSocket) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::from(socket);
    let ipv6 = socket.local_addr()?.is_ipv6();
    if ipv6 && !socket.only_v6()? {
        let text = "it takes IPv4 and IPv6 at once: TFTP needs a socket for each (BindIPv6Only=ipv6-only)";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

pub(super) struct Socket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    /// If it is bound to all addresses, each datagram must say from which it comes.
    local: SocketAddr,
}

impl Socket {
    /// Must run within a tokio runtime.
    pub(super) fn new(bound: UdpSocket) -> io::Result<Self> {
        let local = bound.local_addr()?;
        let io = tokio::net::UdpSocket::from_std(bound)?;
        let state = Self::prepare(&io, local)?;
        Ok(Self { io, state, local })
    }

    fn prepare(io: &tokio::net::UdpSocket, local: SocketAddr) -> io::Result<UdpSocketState> {
        let state = UdpSocketState::new(io.into())?;
        match local {
            SocketAddr::V4(_) => set_ip_mtu_discover(io, Ipv4PathMtuDiscovery::DONT)?,
            SocketAddr::V6(_) => set_ipv6_mtu_discover(io, Ipv6PathMtuDiscovery::DONT)?,
        }
        Ok(state)
    }

    /// Waits until [`Socket::receive`] may find something.
    pub(super) async fn readable(&self) {
        // An error would show again in `receive`.
        let _ = std::future::poll_fn(|context| self.io.poll_recv_ready(context)).await;
    }

    /// Takes one batch; false if there was nothing.
    pub(super) fn receive(&self, inbox: &mut Inbox) -> bool {
        inbox.count = 0;
        let taken = self.io.try_io(Interest::READABLE, || {
            self.take(inbox);
            if inbox.count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        taken.is_ok()
    }

    /// The same, also for what arrived but was not announced by [`Socket::readable`] yet.
    pub(super) fn receive_unannounced(&self, inbox: &mut Inbox) -> bool {
        self.take(inbox);
        inbox.count > 0
    }

    fn take(&self, inbox: &mut Inbox) {
        let mut rooms = inbox.bytes.chunks_exact_mut(ROOM);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
        inbox.count = self.state.recv((&self.io).into(), &mut slices, &mut inbox.metas).unwrap_or(0);
    }

    /// Sends a parcel. Waits while the kernel's queue is full, which slows this worker down and nobody else. What
    /// cannot be sent at all is lost, like any datagram.
    pub(super) async fn send(&mut self, parcel: &Parcel) {
        let stride = parcel.stride.max(1);
        let segments = self.state.max_gso_segments().min(LARGEST_SEND / stride).max(1);
        for chunk in parcel.bytes.chunks(segments * stride) {
            if self.transmit(parcel, chunk).await.is_err() && chunk.len() > stride {
                for datagram in chunk.chunks(stride) {
                    let _ = self.transmit(parcel, datagram).await;
                }
            }
        }
    }

    async fn transmit(&mut self, parcel: &Parcel, contents: &[u8]) -> io::Result<()> {
        let transmit = Transmit {
            destination: parcel.to,
            ecn: None,
            contents,
            segment_size: (contents.len() > parcel.stride).then_some(parcel.stride),
            src_ip: parcel.from.filter(|_| self.local.ip().is_unspecified()),
        };
        loop {
            let sent =
                self.io.try_io(Interest::WRITABLE, || self.state.try_send((&self.io).into(), &transmit));
            match sent {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.io.writable().await?,
                Err(error) if error.kind() == ErrorKind::InvalidInput && transmit.segment_size.is_none() => {
                    // quinn-udp concludes that the kernel cannot segment. But the client asked an address that cannot
                    // answer, a subnet's broadcast say; the others shall not pay for that.
                    self.state = Self::prepare(&self.io, self.local)?;
                    return Err(error);
                }
                sent => return sent,
            }
        }
    }
}

/// One batch of datagrams.
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    metas: [RecvMeta; BATCH],
    count: usize,
}

/// One datagram as it came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Datagram<'a> {
    pub(super) client: SocketAddr,
    /// The address of ours it was sent to, and the interface it came through.
    pub(super) local: Option<IpAddr>,
    pub(super) interface: Option<u32>,
    pub(super) packet: &'a [u8],
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; BATCH * ROOM].into_boxed_slice(),
            metas: [RecvMeta::default(); BATCH],
            count: 0,
        }
    }

    /// What the last batch brought. The kernel may have joined datagrams of one client.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.bytes.chunks_exact(ROOM).zip(&self.metas).take(self.count).flat_map(|(room, meta)| {
            let joined = room.get(..meta.len).unwrap_or_default();
            joined.chunks(meta.stride.max(1)).map(|packet| Datagram {
                client: meta.addr,
                local: meta.dst_ip,
                interface: meta.interface_index,
                packet,
            })
        })
    }
}
