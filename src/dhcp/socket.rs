//! [`ProxySocket`]: a UDP socket that knows the interface of each datagram, and sends through this interface.
//!
//! The kernel reports the interface and its address (`IP_PKTINFO`). So one socket serves several interfaces without a
//! privilege: `SO_BINDTODEVICE` would need CAP_NET_RAW.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;

use nix::libc::{MSG_DONTROUTE, in_addr, in_pktinfo};
use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg, setsockopt,
};
use rustix::net::netdevice::index_to_name;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::engine::Transmission;

/// Receive buffer for one datagram. Requests have about 550 bytes.
pub(super) const MAX_DATAGRAM: usize = 2048;
/// Requested size of the socket's receive buffer, which the kernel may lower: ten thousand machines may be switched on at
/// once.
const BUFFER_SIZE: usize = 16 << 20;

/// Binds a port on all addresses.
pub(super) fn bind(port: u16) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port).into())?;
    Ok(socket.into())
}

/// The metadata of a received datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reception {
    pub(super) length: usize,
    pub(super) source: SocketAddrV4,
    pub(super) destination: Ipv4Addr,
    /// The server's address on the receiving interface.
    pub(super) local_ip: Ipv4Addr,
    /// The index of the receiving interface.
    pub(super) interface: i32,
}

#[derive(Debug)]
pub(super) struct ProxySocket {
    udp: AsyncFd<UdpSocket>,
    port: u16,
}

impl ProxySocket {
    /// Uses a bound socket. Must be called within a runtime.
    pub(super) fn new(udp: UdpSocket) -> io::Result<Self> {
        let SocketAddr::V4(address) = udp.local_addr()? else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "ProxyDHCP needs an IPv4 socket"));
        };
        let socket = Socket::from(udp);
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(BUFFER_SIZE)?;
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        Ok(Self { udp: watch(socket.into())?, port: address.port() })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.get_ref().local_addr()
    }

    /// Waits for a datagram.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.udp.readable().await.map(|mut guard| guard.retain_ready())
    }

    /// Receives a datagram; `Ok(None)` for one without the necessary metadata.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<Option<Reception>> {
        self.udp.try_io(Interest::READABLE, |socket| receive(socket, buffer))
    }

    /// The name of an interface.
    pub(super) fn interface_name(&self, index: i32) -> Option<String> {
        index_to_name(self.udp.get_ref(), index.try_into().ok()?).ok()
    }

    /// Sends through this interface. A destination beyond the link is an error, unless a router may forward the datagram.
    pub(super) fn send(&self, transmission: &Transmission, interface: i32) -> io::Result<()> {
        let info = in_pktinfo {
            // A relay may be reachable through another interface.
            ipi_ifindex: if transmission.is_routed { 0 } else { interface },
            ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(transmission.source_ip.octets()) },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let link_only = MsgFlags::from_bits_retain(MSG_DONTROUTE);
        let link_only = if transmission.is_routed { MsgFlags::empty() } else { link_only };
        let (slices, destination) =
            ([IoSlice::new(&transmission.bytes)], SockaddrIn::from(transmission.destination));
        let control = [ControlMessage::Ipv4PacketInfo(&info)];
        let flags = MsgFlags::MSG_DONTWAIT | link_only;
        sendmsg(self.udp.as_raw_fd(), &slices, &control, flags, Some(&destination))?;
        Ok(())
    }
}

/// Registers a socket with the runtime, for reading alone: otherwise each datagram that leaves would wake the runtime.
#[allow(
    deprecated,
    reason = "the replacement is unsafe, for types whose descriptor changes; that of a socket does not"
)]
fn watch(socket: UdpSocket) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(socket, Interest::READABLE)
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<Reception>> {
    let mut slices = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(in_pktinfo);
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)?;
    let info = message.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
        _ => None,
    });
    let (Some(info), Some(source)) = (info, message.address) else { return Ok(None) };
    Ok(Some(Reception {
        length: message.bytes,
        source: SocketAddrV4::from(source),
        destination: to_address(info.ipi_addr),
        local_ip: to_address(info.ipi_spec_dst),
        interface: info.ipi_ifindex,
    }))
}

fn to_address(address: in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}
