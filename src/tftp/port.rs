//! The socket of one transfer, on a port of its own.
//!
//! The socket is bound to the address of the request and connected to the client. The kernel thus drops packets of
//! other senders, reports ICMP errors for this transfer, and keeps the route: a send costs less than on a shared socket.
//! Linux picks the port for port 0 at random (`get_random_u32` in `udp_lib_get_port`).
//!
//! Between `bind` and `connect`, the socket takes datagrams of any sender (*strays*), such as those of a flood at the ports
//! of a small range. It therefore looks at the sender of each datagram until the first one of the client. To empty the
//! queue after `connect` would not suffice: the kernel may have assigned a stray to the socket before `connect`, and
//! queue it afterwards. It would also cost a system call for each transfer, which the look at a sender does not.
//!
//! Invariant: the DF bit is never set, since some ROMs cannot handle it. Blocks fit the interface's MTU, so the
//! server's own host fragments nothing.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, Timeout, set_ip_mtu_discover, set_ipv6_mtu_discover,
    set_socket_recv_buffer_size, set_socket_reuseaddr, set_socket_timeout,
};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType};
use rustix::rand::{GetRandomFlags, getrandom};

use super::segments::Segmentation;
use super::transmit::Transmit;

/// A client sends one short packet per window, so a small buffer suffices. Nobody can fill the memory of the kernel
/// through many transfers.
const RECEIVE_BUFFER: usize = 16 << 10;
/// How long [`TransferSocket::receive`] waits: longer than a client on the same network needs for a response, but short
/// enough for the worker's other tasks.
const RECEIVE_TIMEOUT: Duration = Duration::from_millis(5);
/// Attempts to find a free port of a range.
const MAX_ATTEMPTS: usize = 32;

/// The address that a request was sent to, from which a port of its own responds.
#[derive(Debug)]
pub(super) struct TransferAddress {
    pub(super) ip: IpAddr,
    /// Index of the interface, for link-local addresses.
    pub(super) interface: u32,
}

impl TransferAddress {
    /// The address with a port. A link-local address needs the interface.
    pub(super) fn with_port(&self, port: u16) -> SocketAddr {
        match self.ip {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(ip, port, 0, self.interface))
            }
            ip => SocketAddr::new(ip, port),
        }
    }

    /// Binds `socket` to a port of the range, or to one that the kernel picks.
    fn bind(&self, socket: &UdpSocket, range: Option<&RangeInclusive<u16>>) -> io::Result<()> {
        let Some(range) = range else { return Ok(rustix::net::bind(socket, &self.with_port(0))?) };
        // Transfers of different clients may share a port: the kernel tells connected sockets apart by the client.
        set_socket_reuseaddr(socket, true)?;
        let ports = u32::from(range.end() - range.start()) + 1;
        let mut result = Err(ErrorKind::AddrInUse.into());
        for _ in 0..MAX_ATTEMPTS {
            let port = range.start() + (random_u32()? % ports) as u16;
            result = rustix::net::bind(socket, &self.with_port(port)).map_err(io::Error::from);
            if !result.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse) {
                break;
            }
        }
        result
    }
}

fn random_u32() -> io::Result<u32> {
    let mut bytes = [0; 4];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u32::from_ne_bytes(bytes))
}

/// The socket of a transfer.
#[derive(Debug)]
pub(super) struct TransferSocket {
    pub(super) udp: UdpSocket,
    segmentation: Segmentation,
    client: SocketAddr,
    /// The client's first datagram has not been received.
    may_hold_strays: Cell<bool>,
}

impl TransferSocket {
    /// Opens a socket at `address` for packets to and from `client`.
    pub(super) fn open(
        address: &TransferAddress,
        range: Option<&RangeInclusive<u16>>,
        client: SocketAddr,
    ) -> io::Result<Self> {
        let family = if client.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        let udp = UdpSocket::from(fd);
        if client.is_ipv4() {
            set_ip_mtu_discover(&udp, Ipv4PathMtuDiscovery::DONT)?;
        } else {
            set_ipv6_mtu_discover(&udp, Ipv6PathMtuDiscovery::DONT)?;
        }
        set_socket_recv_buffer_size(&udp, RECEIVE_BUFFER)?;
        set_socket_timeout(&udp, Timeout::Recv, Some(RECEIVE_TIMEOUT))?;
        address.bind(&udp, range)?;
        Self::connect(udp, client)
    }

    /// Connects a bound socket.
    fn connect(udp: UdpSocket, client: SocketAddr) -> io::Result<Self> {
        rustix::net::connect(&udp, &client)?;
        Ok(Self { udp, segmentation: Segmentation::new(), client, may_hold_strays: Cell::new(true) })
    }

    /// Receives a datagram; waits a few milliseconds for it. An error other than [`ErrorKind::WouldBlock`] reports an ICMP
    /// error.
    pub(super) fn receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.receive_with(packet, RecvFlags::empty())
    }

    /// Receives a datagram if one is queued.
    pub(super) fn try_receive(&self, packet: &mut [u8]) -> io::Result<usize> {
        self.receive_with(packet, RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, packet: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        // Ends: after `connect`, no stray is added to those that fit into the receive buffer.
        while self.may_hold_strays.get() {
            let (length, _, sender) = rustix::net::recvfrom(&self.udp, &mut *packet, flags)?;
            if sender.is_some_and(|sender| sender == SocketAddrAny::from(self.client)) {
                self.may_hold_strays.set(false);
                return Ok(length);
            }
        }
        Ok(rustix::net::recv(&self.udp, packet, flags)?.0)
    }

    /// Sends the datagrams of a [`Transmit`], without waiting for room in the kernel's queue. `Err` reports an ICMP
    /// error.
    pub(super) fn send(&self, transmit: &Transmit) -> io::Result<()> {
        self.segmentation
            .send(&self.udp, transmit, |bytes| Ok(rustix::net::send(&self.udp, bytes, SendFlags::DONTWAIT)?))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::Ipv4Addr;

    use super::*;

    const ADDRESS: TransferAddress = TransferAddress { ip: IpAddr::V4(Ipv4Addr::LOCALHOST), interface: 0 };

    fn open(range: Option<&RangeInclusive<u16>>, client: &UdpSocket) -> TransferSocket {
        let client = client.local_addr().expect("an address");
        TransferSocket::open(&ADDRESS, range, client).expect("a socket")
    }

    fn port(socket: &TransferSocket) -> u16 {
        socket.udp.local_addr().expect("an address").port()
    }

    #[test]
    fn ports_are_random_and_a_range_serves_more_transfers_than_it_has_ports() {
        let client = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let sockets: Vec<_> = (0..16).map(|_| open(None, &client())).collect();
        let gaps: HashSet<_> =
            sockets.windows(2).map(|pair| port(&pair[1]).wrapping_sub(port(&pair[0]))).collect();
        assert!(gaps.len() > 8, "{gaps:?}");
        let range = 42_200..=42_203;
        let clients: Vec<_> = (0..16).map(|_| client()).collect();
        let sockets: Vec<_> = clients.iter().map(|client| open(Some(&range), client)).collect();
        assert!(sockets.iter().all(|socket| range.contains(&port(socket))));
        let mut packet = [0; 16];
        for (number, (client, socket)) in (0_u8..).zip(clients.iter().zip(&sockets)) {
            client.send_to(&[number], ("127.0.0.1", port(socket))).expect("a route");
            socket.udp.set_read_timeout(Some(Duration::from_secs(5))).expect("is set");
            assert_eq!((socket.receive(&mut packet).expect("a datagram"), packet[0]), (1, number));
        }
    }

    #[test]
    fn datagrams_from_before_the_connection_count_only_if_they_are_the_clients() {
        let [client, stranger] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        let bound = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = bound.local_addr().expect("an address");
        for _ in 0..100 {
            stranger.send_to(b"\0\x05\0\0end\0", address).expect("a route");
        }
        let socket =
            TransferSocket::connect(bound, client.local_addr().expect("an address")).expect("a route");
        let error = socket.try_receive(&mut [0; 16]).expect_err("no packet of the client");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        for packet in [b"first", b"other"] {
            client.send_to(packet, address).expect("a route");
            let mut received = [0; 16];
            assert_eq!(socket.receive(&mut received).expect("a datagram"), packet.len());
            assert!(received.starts_with(packet));
        }
    }

    #[test]
    fn the_kernel_drops_packets_of_other_senders_and_reports_a_closed_port() {
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let socket = open(None, &client);
        let stranger = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        stranger.send_to(b"x", ("127.0.0.1", port(&socket))).expect("a route");
        let error = socket.try_receive(&mut [0; 16]).expect_err("no packet");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(client);
        let mut transmit = Transmit::new();
        transmit.put_error(0, "x");
        socket.send(&transmit).expect("the first packet leaves");
        let error = socket.receive(&mut [0; 16]).expect_err("an ICMP error");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }
}
