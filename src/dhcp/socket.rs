//! [`ProxySocket`]: a UDP socket that knows the interface of each datagram, and sends through this interface.
//!
//! The kernel reports the interface and its address (`IP_PKTINFO`). So one socket serves several interfaces without a
//! privilege: `SO_BINDTODEVICE` would need CAP_NET_RAW.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{MSG_DONTROUTE, in_addr, in_pktinfo};
use nix::sys::socket::sockopt::Ipv4PacketInfo;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrIn, recvmmsg, sendmsg,
    setsockopt,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::engine::Transmission;

/// Receive buffer for one datagram. Requests have about 550 bytes.
const MAX_DATAGRAM: usize = 2048;
/// Most datagrams of one system call.
const MAX_DATAGRAMS: usize = 16;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reception {
    pub(super) length: usize,
    pub(super) source: SocketAddrV4,
    pub(super) destination: Ipv4Addr,
    /// The server's address on the receiving interface.
    pub(super) local_ip: Ipv4Addr,
    /// The index of the receiving interface.
    pub(super) interface: i32,
}

/// A socket of one of the two ports.
#[derive(Debug)]
pub(super) struct ProxySocket {
    udp: UdpSocket,
    port: u16,
}

impl ProxySocket {
    /// Uses a bound socket.
    pub(super) fn new(udp: UdpSocket) -> io::Result<Self> {
        let SocketAddr::V4(address) = udp.local_addr()? else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "ProxyDHCP needs an IPv4 socket"));
        };
        let socket = Socket::from(udp);
        socket.set_broadcast(true)?;
        socket.set_recv_buffer_size(BUFFER_SIZE)?;
        setsockopt(&socket, Ipv4PacketInfo, &true)?;
        Ok(Self { udp: socket.into(), port: address.port() })
    }

    pub(super) fn udp(&self) -> &UdpSocket {
        &self.udp
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Sends through this interface. A destination beyond the link is an error, unless a router may forward the datagram.
    pub(super) fn send(&self, transmission: &Transmission, interface: i32) -> io::Result<()> {
        self.send_bytes(&[IoSlice::new(&transmission.bytes)], transmission, interface, None)
    }

    /// Sends datagrams that differ in their bytes only, and have the same length, with one passage of the network stack. The
    /// kernel segments them (UDP GSO); an interface without checksum offload is an error.
    pub(super) fn send_segments(&self, segments: &[&Transmission], interface: i32) -> io::Result<()> {
        let Some(first) = segments.first() else { return Ok(()) };
        let slices: Vec<_> = segments.iter().map(|segment| IoSlice::new(&segment.bytes)).collect();
        let length = u16::try_from(first.bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.send_bytes(&slices, first, interface, Some(length))
    }

    /// Sends bytes as one datagram, or as datagrams of `segment_length` bytes.
    fn send_bytes(
        &self,
        bytes: &[IoSlice<'_>],
        transmission: &Transmission,
        interface: i32,
        segment_length: Option<u16>,
    ) -> io::Result<()> {
        let info = in_pktinfo {
            // A relay may be reachable through another interface.
            ipi_ifindex: if transmission.is_routed { 0 } else { interface },
            ipi_spec_dst: in_addr { s_addr: u32::from_ne_bytes(transmission.source_ip.octets()) },
            ipi_addr: in_addr { s_addr: 0 },
        };
        let link_only = MsgFlags::from_bits_retain(MSG_DONTROUTE);
        let link_only = if transmission.is_routed { MsgFlags::empty() } else { link_only };
        let destination = SockaddrIn::from(transmission.destination);
        let info = ControlMessage::Ipv4PacketInfo(&info);
        let flags = MsgFlags::MSG_DONTWAIT | link_only;
        let fd = self.udp.as_raw_fd();
        match &segment_length {
            None => sendmsg(fd, bytes, &[info], flags, Some(&destination))?,
            Some(length) => {
                let control = [info, ControlMessage::UdpGsoSegments(length)];
                sendmsg(fd, bytes, &control, flags, Some(&destination))?
            }
        };
        Ok(())
    }
}

impl AsFd for ProxySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.udp.as_fd()
    }
}

/// The sockets of the server.
#[derive(Debug)]
pub(super) struct ServerSockets {
    /// Port 67; `None` if another DHCP server holds it.
    pub(super) discovery: Option<ProxySocket>,
    /// Port 4011.
    pub(super) boot_server: ProxySocket,
}

impl ServerSockets {
    /// The socket of a port; that of port 4011 if port 67 is not served.
    pub(super) fn of_port(&self, port: u16) -> &ProxySocket {
        self.discovery.as_ref().filter(|socket| socket.port == port).unwrap_or(&self.boot_server)
    }
}

/// Buffers for the datagrams of one system call.
pub(super) struct ReceiveBuffers {
    headers: MultiHeaders<SockaddrIn>,
    bytes: Box<[u8]>,
    receptions: Vec<Option<Reception>>,
}

impl ReceiveBuffers {
    pub(super) fn new() -> Self {
        let bytes = vec![0; MAX_DATAGRAMS * MAX_DATAGRAM].into_boxed_slice();
        Self { headers: new_headers(), bytes, receptions: Vec::with_capacity(MAX_DATAGRAMS) }
    }

    /// Receives the queued datagrams, at most [`MAX_DATAGRAMS`]. Returns whether there may be more.
    pub(super) fn receive(&mut self, socket: &ProxySocket) -> bool {
        self.receptions.clear();
        let mut slices: Vec<_> =
            self.bytes.chunks_mut(MAX_DATAGRAM).map(|bytes| [IoSliceMut::new(bytes)]).collect();
        let (fd, flags) = (socket.udp.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        // An error is an empty queue, or an ICMP error for an earlier datagram.
        let Ok(messages) = recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None) else {
            return false;
        };
        self.receptions.extend(messages.map(|message| Reception::new(&message)));
        if self.receptions.contains(&None) {
            // The kernel has shortened the room for metadata to what it wrote.
            self.headers = new_headers();
        }
        self.receptions.len() == MAX_DATAGRAMS
    }

    /// The received datagrams with the necessary metadata.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], Reception)> {
        let datagrams = self.bytes.chunks(MAX_DATAGRAM).zip(&self.receptions);
        datagrams.filter_map(|(bytes, reception)| {
            let reception = (*reception)?;
            Some((bytes.get(..reception.length)?, reception))
        })
    }
}

fn new_headers() -> MultiHeaders<SockaddrIn> {
    MultiHeaders::preallocate(MAX_DATAGRAMS, Some(nix::cmsg_space!(in_pktinfo)))
}

impl Reception {
    fn new(message: &RecvMsg<'_, '_, SockaddrIn>) -> Option<Self> {
        let info = message.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(info),
            _ => None,
        })?;
        Some(Self {
            length: message.bytes,
            source: SocketAddrV4::from(message.address?),
            destination: to_address(info.ipi_addr),
            local_ip: to_address(info.ipi_spec_dst),
            interface: info.ipi_ifindex,
        })
    }
}

fn to_address(address: in_addr) -> Ipv4Addr {
    Ipv4Addr::from(address.s_addr.to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_arrive_as_datagrams() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let socket = ProxySocket::new(udp).expect("a socket");
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let SocketAddr::V4(destination) = client.local_addr().expect("an address") else { unreachable!() };
        let segments: Vec<_> = (0..5)
            .map(|number| Transmission {
                bytes: vec![number; 300],
                destination,
                source_ip: Ipv4Addr::LOCALHOST,
                is_routed: true,
            })
            .collect();
        socket.send_segments(&segments.iter().collect::<Vec<_>>(), 0).expect("sends");
        let mut received = [0; 1500];
        for number in 0..5 {
            assert_eq!(client.recv(&mut received).expect("a datagram"), 300);
            assert!(received.iter().take(300).all(|byte| *byte == number));
        }
        assert!(socket.send_segments(&[], 0).is_ok());
    }

    #[test]
    fn batches_have_the_metadata_of_each_datagram() {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let socket = ProxySocket::new(udp).expect("a socket");
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let mut buffers = ReceiveBuffers::new();
        assert!(!buffers.receive(&socket) && buffers.datagrams().next().is_none());
        let to = socket.local_addr().expect("an address");
        for number in 0..=MAX_DATAGRAMS {
            client.send_to(&vec![number as u8; number], to).expect("sends");
        }
        assert!(buffers.receive(&socket), "one more than a batch");
        let mut lengths = Vec::new();
        for round in 0..2 {
            for (bytes, reception) in buffers.datagrams() {
                assert!(bytes.iter().all(|byte| usize::from(*byte) == bytes.len()));
                assert_eq!(SocketAddr::V4(reception.source), client.local_addr().expect("an address"));
                assert_eq!(reception.local_ip, Ipv4Addr::LOCALHOST);
                assert!(reception.interface > 0);
                lengths.push(bytes.len());
            }
            assert!(round == 1 || !buffers.receive(&socket));
        }
        assert_eq!(lengths, (0..=MAX_DATAGRAMS).collect::<Vec<_>>());
    }
}
