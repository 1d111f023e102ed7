//! The socket that receives requests. It sends rejections, and with [`Ports::Single`](super::Ports) all packets.
//!
//! For each request the kernel reports its destination address and its interface; the response has to leave from that
//! address. The most frequent send, one block to one client, uses the cheapest call.
//!
//! Invariant: the DF bit is never set, since some ROMs cannot handle it. Blocks fit the interface's MTU, so the
//! server's own host fragments nothing.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc::{ECONNREFUSED, in_addr, in_pktinfo, in6_addr, in6_pktinfo, sock_extended_err, sockaddr_in6};
use nix::sys::socket::sockopt::{Ipv4PacketInfo, Ipv4RecvErr, Ipv6RecvErr, Ipv6RecvPacketInfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
};
use rustix::net::SendFlags;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Type};

use super::segments::Segmentation;
use super::transmit::Transmit;

/// Receive buffer for one datagram: requests have up to 512 bytes (RFC 2347 §2), ACK and ERROR packets fewer.
pub(super) const MAX_DATAGRAM: usize = 2048;
/// Requested socket buffer size, which the kernel may lower: a boot storm arrives within milliseconds.
const BUFFER_SIZE: usize = 4 << 20;
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

/// Configures a bound socket. A dual-stack socket is an error, since a transfer's socket has a single family.
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
    /// Destination address and interface index.
    pub(super) local_ip: Option<IpAddr>,
    pub(super) interface: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) udp: UdpSocket,
    /// Bound to all addresses: each send has to name its source address.
    is_unspecified: bool,
}

impl Socket {
    /// Wraps a bound socket.
    pub(super) fn new(udp: UdpSocket) -> io::Result<Self> {
        let address = udp.local_addr()?;
        if address.is_ipv4() {
            setsockopt(&udp, Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&udp, Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Self { udp, is_unspecified: address.ip().is_unspecified() })
    }

    /// Has the kernel report ICMP errors, see [`Socket::take_unreachable`].
    pub(super) fn report_errors(&self) -> io::Result<()> {
        if self.udp.local_addr()?.is_ipv4() {
            setsockopt(&self.udp, Ipv4RecvErr, &true)?;
        } else {
            setsockopt(&self.udp, Ipv6RecvErr, &true)?;
        }
        Ok(())
    }

    /// The address to which the socket is bound; `None` if to all.
    pub(super) fn bound_ip(&self) -> Option<IpAddr> {
        self.udp.local_addr().ok().map(|address| address.ip()).filter(|_| !self.is_unspecified)
    }

    /// Receives a datagram; waits a few milliseconds for it. An error other than [`ErrorKind::WouldBlock`] may report an
    /// ICMP error.
    pub(super) fn receive(&self, packet: &mut [u8]) -> io::Result<RecvMeta> {
        self.receive_with(packet, MsgFlags::empty())
    }

    /// Receives a datagram if one is queued.
    pub(super) fn try_receive(&self, packet: &mut [u8]) -> io::Result<RecvMeta> {
        self.receive_with(packet, MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with(&self, packet: &mut [u8], flags: MsgFlags) -> io::Result<RecvMeta> {
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

    /// Takes a reported ICMP error from the kernel's queue. Returns the destination of the packet if the error is final: a
    /// missing route may be a transient (RFC 1122 §3.2.2.1), as may a fragmentation that failed.
    pub(super) fn take_unreachable(&self) -> io::Result<Option<SocketAddr>> {
        let mut packet = [0; 4];
        let mut slices = [IoSliceMut::new(&mut packet)];
        let mut control = nix::cmsg_space!(sock_extended_err, sockaddr_in6, in6_pktinfo);
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let fd = self.udp.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags)?;
        let is_final = message.cmsgs().into_iter().flatten().any(|control_message| match control_message {
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                error.ee_errno == ECONNREFUSED as u32
            }
            _ => false,
        });
        Ok(message.address.as_ref().and_then(socket_address).filter(|_| is_final))
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
    /// worker.
    pub(super) fn send(&self, transmit: &Transmit, segmentation: &Segmentation) {
        let send = |bytes: &[u8]| {
            let result = self.send_bytes(transmit, bytes);
            // A pending ICMP error of another client fails one send.
            if result.as_ref().is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                return self.send_bytes(transmit, bytes);
            }
            result
        };
        let _ = segmentation.send(&self.udp, transmit, send);
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
