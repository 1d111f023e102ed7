//! UDP sockets with the kernel's features for servers of many clients.
//!
//! For each request the kernel reports its destination address and its interface; the response has to leave from that
//! address. A whole window leaves in one system call if the kernel splits it into datagrams (UDP segmentation
//! offload, GSO), otherwise datagram by datagram. The most frequent send, one block to one client, uses the cheapest
//! call.
//!
//! Invariant: the DF bit is never set, since some ROMs cannot handle it. Blocks fit the interface's MTU, so the
//! server's own host fragments nothing.

use std::cell::Cell;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv6RecvPacketInfo, UdpGsoSegment};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, getsockopt, recvmsg, sendmsg, setsockopt,
};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use rustix::net::{RecvFlags, SendFlags};
use socket2::{Domain, Protocol, Type};

use super::transmit::Transmit;

/// Receive buffer for one datagram: requests have up to 512 bytes (RFC 2347 §2), ACK and ERROR packets fewer.
pub(super) const MAX_DATAGRAM: usize = 2048;
/// Requested socket buffer size, which the kernel may lower: a boot storm arrives within milliseconds.
const BUFFER_SIZE: usize = 4 << 20;
/// Limits of one GSO send: datagrams (newer kernels allow twice as many) and bytes (one IP packet).
const MAX_SEGMENTS: usize = 64;
const MAX_SEND_SIZE: usize = 65_000;
/// How long the kernel's queue may stay full before a datagram counts as lost.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);
/// How long [`Socket::receive`] waits: longer than a client on the same network needs for a response, but short
/// enough for the worker's other tasks.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(5);

/// Binds a socket. An IPv6 socket is IPv6 only, so `0.0.0.0` and `::` can listen side by side.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    configure(socket.into())
}

/// Configures a bound socket. A dual-stack socket is an error, since the transfer sockets have a single family.
pub(super) fn configure(socket: UdpSocket) -> io::Result<UdpSocket> {
    let socket = socket2::Socket::from(socket);
    let is_ipv6 = socket.local_addr()?.is_ipv6();
    if is_ipv6 && !socket.only_v6()? {
        let text =
            "the socket accepts both IPv4 and IPv6: TFTP needs a socket for each (BindIPv6Only=ipv6-only)";
        return Err(io::Error::new(ErrorKind::InvalidInput, text));
    }
    if is_ipv6 {
        set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
    } else {
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
    }
    socket.set_recv_buffer_size(BUFFER_SIZE)?;
    socket.set_send_buffer_size(BUFFER_SIZE)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    Ok(socket.into())
}

/// Metadata of a received datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecvMeta {
    pub(super) length: usize,
    pub(super) client: SocketAddr,
    /// Destination address and interface index. `None` on a socket from [`Socket::for_transfers`].
    pub(super) local_ip: Option<IpAddr>,
    pub(super) interface: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) udp: UdpSocket,
    /// The socket receives requests: the kernel reports each destination address.
    accepts_requests: bool,
    /// Bound to all addresses: each send has to name its source address.
    is_unspecified: bool,
    /// The kernel supports UDP segmentation offload.
    has_gso: bool,
    /// The segment size set on the socket; 0 if segmentation is off.
    segment_size: Cell<u16>,
}

impl Socket {
    /// Wraps a bound socket that receives requests, and perhaps packets of transfers.
    pub(super) fn for_requests(udp: UdpSocket) -> io::Result<Self> {
        if udp.local_addr()?.is_ipv4() {
            setsockopt(&udp, Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&udp, Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Self { accepts_requests: true, ..Self::for_transfers(udp)? })
    }

    /// Wraps a bound socket that receives only packets of transfers.
    pub(super) fn for_transfers(udp: UdpSocket) -> io::Result<Self> {
        let is_unspecified = udp.local_addr()?.ip().is_unspecified();
        let has_gso = getsockopt(&udp, UdpGsoSegment).is_ok();
        Ok(Self { udp, accepts_requests: false, is_unspecified, has_gso, segment_size: Cell::new(0) })
    }

    pub(super) fn accepts_requests(&self) -> bool {
        self.accepts_requests
    }

    /// Receives a datagram; waits a few milliseconds for it.
    pub(super) fn receive(&self, packet: &mut [u8]) -> Option<RecvMeta> {
        self.receive_with(packet, RecvFlags::empty(), MsgFlags::empty())
    }

    /// Receives a datagram if one is queued.
    pub(super) fn try_receive(&self, packet: &mut [u8]) -> Option<RecvMeta> {
        self.receive_with(packet, RecvFlags::DONTWAIT, MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with(
        &self,
        packet: &mut [u8],
        transfer_flags: RecvFlags,
        request_flags: MsgFlags,
    ) -> Option<RecvMeta> {
        if self.accepts_requests {
            return self.receive_request(packet, request_flags).ok();
        }
        let (length, _, client) = rustix::net::recvfrom(&self.udp, packet, transfer_flags).ok()?;
        Some(RecvMeta { length, client: client?.try_into().ok()?, local_ip: None, interface: None })
    }

    fn receive_request(&self, packet: &mut [u8], flags: MsgFlags) -> io::Result<RecvMeta> {
        let mut slices = [IoSliceMut::new(packet)];
        let mut control = nix::cmsg_space!(in6_pktinfo);
        let fd = self.udp.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags)?;
        let client = message.address.as_ref().and_then(socket_address).ok_or(ErrorKind::InvalidData)?;
        let mut meta = RecvMeta { length: message.bytes, client, local_ip: None, interface: None };
        for control_message in message.cmsgs().into_iter().flatten() {
            match control_message {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    meta.local_ip = Some(info.ipi_addr.s_addr.to_ne_bytes().into());
                    meta.interface = u32::try_from(info.ipi_ifindex).ok();
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    meta.local_ip = Some(info.ipi6_addr.s6_addr.into());
                    meta.interface = Some(info.ipi6_ifindex);
                }
                _ => {}
            }
        }
        Ok(meta)
    }

    /// The source address that the kernel picks by itself for datagrams to this client. `None` if the socket is bound
    /// to one address, or if no route exists.
    pub(super) fn default_source(&self, client: SocketAddr) -> Option<IpAddr> {
        let bound_address = self.udp.local_addr().ok().filter(|_| self.is_unspecified)?;
        let socket = UdpSocket::bind(SocketAddr::new(bound_address.ip(), 0)).ok()?;
        socket.connect(client).ok()?;
        Some(socket.local_addr().ok()?.ip())
    }

    /// Sends the datagrams of a [`Transmit`]. Blocks while the kernel's queue is full, which slows down only this
    /// worker. A datagram that the kernel rejects is lost, like any other datagram.
    pub(super) fn send(&self, transmit: &Transmit) {
        let segment_size = transmit.segment_size();
        let max_segments = MAX_SEGMENTS.min(MAX_SEND_SIZE / segment_size).max(1);
        let max_segments = if self.has_gso { max_segments } else { 1 };
        for batch in transmit.bytes().chunks(max_segments * segment_size) {
            let is_single = batch.len() <= segment_size;
            let result = self.set_segment_size(if is_single { 0 } else { segment_size as u16 });
            let result = result.and_then(|()| self.send_bytes(transmit, batch));
            // Some routes do not support segmentation: IPsec, or a smaller MTU. After a time-out on a full queue,
            // single datagrams would not fit either.
            if !is_single && result.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                let _ = self.set_segment_size(0);
                for datagram in batch.chunks(segment_size) {
                    let _ = self.send_bytes(transmit, datagram);
                }
            }
        }
    }

    /// Sets the segment size of later sends; 0 turns segmentation off. Concurrent clients are mostly of the same
    /// kind, so a system call per change costs less than a control message per window.
    fn set_segment_size(&self, segment_size: u16) -> io::Result<()> {
        if self.segment_size.get() != segment_size {
            setsockopt(&self.udp, UdpGsoSegment, &segment_size.into())?;
            self.segment_size.set(segment_size);
        }
        Ok(())
    }

    fn send_bytes(&self, transmit: &Transmit, bytes: &[u8]) -> io::Result<usize> {
        let Transmit { destination, source_ip, .. } = transmit;
        let Some(packet_info) = source_ip.filter(|_| self.is_unspecified).map(PacketInfo::from) else {
            return Ok(rustix::net::sendto(&self.udp, bytes, SendFlags::empty(), destination)?);
        };
        let (slices, destination) = ([IoSlice::new(bytes)], SockaddrStorage::from(*destination));
        let control_messages = [packet_info.to_control_message()];
        let fd = self.udp.as_raw_fd();
        Ok(sendmsg(fd, &slices, &control_messages, MsgFlags::empty(), Some(&destination))?)
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
}

/// Source address of a datagram, as the kernel expects it.
enum PacketInfo {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl PacketInfo {
    fn to_control_message(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

impl From<IpAddr> for PacketInfo {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(address.octets()) },
                ipi_addr: in_addr { s_addr: 0 },
            }),
            IpAddr::V6(address) => {
                Self::V6(in6_pktinfo { ipi6_addr: in6_addr { s6_addr: address.octets() }, ipi6_ifindex: 0 })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn the_kernel_splits_windows_and_nothing_else() {
        let bind_socket = || bind("127.0.0.1:0".parse().expect("an address")).expect("binds");
        let (server, client) = (Socket::for_transfers(bind_socket()).expect("a socket"), bind_socket());
        assert!(server.has_gso, "this kernel does not support UDP segmentation offload");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("is set");
        let mut transmit = Transmit::new();
        transmit.set_addresses(client.local_addr().expect("an address"), None);
        // Total bytes, bytes per datagram: a window with a short end, a longer block, a window again.
        for (total, datagram, segment_size, lengths) in [
            (2500, 1000, 1000, &[1000, 1000, 500][..]),
            (1400, 1400, 0, &[1400]),
            (600, 300, 300, &[300, 300]),
            (900, 1400, 0, &[900]),
        ] {
            transmit.put_shared(Bytes::from(vec![7; total]), datagram);
            server.send(&transmit);
            assert_eq!(server.segment_size.get(), segment_size);
            let mut packet = [0; MAX_DATAGRAM];
            for length in lengths {
                assert_eq!(client.recv(&mut packet).expect("a datagram"), *length);
            }
        }
    }
}
