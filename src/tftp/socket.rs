//! UDP sockets with what the kernel offers to a server of many clients.
//!
//! A request tells the address of ours it was sent to (the answer has to leave from there) and the interface it came
//! through. A whole window leaves in one call where the kernel cuts it into datagrams (UDP segmentation offload), else
//! datagram by datagram. What is sent most often, one block to one client, takes the cheapest call there is.
//!
//! Invariant: the DF bit is never set, since some ROMs choke on it. Blocks fit the interface's MTU, so nothing is
//! fragmented at home.

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

use super::parcel::Parcel;

/// Room for a datagram: requests have up to 512 bytes (RFC 2347 §2), answers fewer.
pub(super) const ROOM: usize = 2048;
/// Asked of the kernel, which may give less: a boot storm comes within milliseconds.
const BUFFER: usize = 4 << 20;
/// What the kernel cuts in one call: so many datagrams (older kernels; newer ones twice as many), and one IP packet's
/// worth of bytes.
const MOST_SEGMENTS: usize = 64;
const LARGEST_SEND: usize = 65_000;
/// How long the kernel's queue may stay full before a datagram counts as lost.
const FULL: Duration = Duration::from_secs(1);
/// How long [`Socket::receive`] waits: longer than a client on the same network needs for an answer, and short enough for
/// whatever else has to wait meanwhile.
const NAP: Duration = Duration::from_millis(5);

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
    if ipv6 {
        set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DONT)?;
    } else {
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
    }
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(NAP))?;
    socket.set_write_timeout(Some(FULL))?;
    Ok(socket.into())
}

/// A datagram as it came; its bytes are elsewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) client: SocketAddr,
    /// The address of ours it was sent to, and the interface it came through. Not told by [`Socket::for_transfers`].
    pub(super) local: Option<IpAddr>,
    pub(super) interface: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) udp: UdpSocket,
    /// Requests come here: each must say where it was sent to.
    takes_requests: bool,
    /// Bound to all addresses: each datagram must say from which it comes.
    is_unspecified: bool,
    /// The kernel cuts windows into datagrams.
    segments: bool,
    /// The length it cuts them into by now; 0: not at all.
    cut: Cell<u16>,
}

impl Socket {
    /// A bound socket that requests come to, and perhaps answers.
    pub(super) fn for_requests(udp: UdpSocket) -> io::Result<Self> {
        if udp.local_addr()?.is_ipv4() {
            setsockopt(&udp, Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&udp, Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Self { takes_requests: true, ..Self::for_transfers(udp)? })
    }

    /// A bound socket that only answers come to.
    pub(super) fn for_transfers(udp: UdpSocket) -> io::Result<Self> {
        let is_unspecified = udp.local_addr()?.ip().is_unspecified();
        let segments = getsockopt(&udp, UdpGsoSegment).is_ok();
        Ok(Self { udp, takes_requests: false, is_unspecified, segments, cut: Cell::new(0) })
    }

    pub(super) fn takes_requests(&self) -> bool {
        self.takes_requests
    }

    /// Takes one datagram; waits a few milliseconds for it.
    pub(super) fn receive(&self, packet: &mut [u8]) -> Option<Received> {
        self.receive_with(packet, RecvFlags::empty(), MsgFlags::empty())
    }

    /// Takes one datagram if there is one.
    pub(super) fn take(&self, packet: &mut [u8]) -> Option<Received> {
        self.receive_with(packet, RecvFlags::DONTWAIT, MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with(&self, packet: &mut [u8], answers: RecvFlags, requests: MsgFlags) -> Option<Received> {
        if self.takes_requests {
            return self.receive_request(packet, requests).ok();
        }
        let (length, _, client) = rustix::net::recvfrom(&self.udp, packet, answers).ok()?;
        Some(Received { length, client: client?.try_into().ok()?, local: None, interface: None })
    }

    fn receive_request(&self, packet: &mut [u8], flags: MsgFlags) -> io::Result<Received> {
        let mut slices = [IoSliceMut::new(packet)];
        let mut control = nix::cmsg_space!(in6_pktinfo);
        let fd = self.udp.as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags)?;
        let client = message.address.as_ref().and_then(socket_address).ok_or(ErrorKind::InvalidData)?;
        let mut received = Received { length: message.bytes, client, local: None, interface: None };
        for told in message.cmsgs().into_iter().flatten() {
            match told {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    received.local = Some(info.ipi_addr.s_addr.to_ne_bytes().into());
                    received.interface = u32::try_from(info.ipi_ifindex).ok();
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    received.local = Some(info.ipi6_addr.s6_addr.into());
                    received.interface = Some(info.ipi6_ifindex);
                }
                _ => {}
            }
        }
        Ok(received)
    }

    /// The address of ours from which datagrams to this client leave if nothing is said; `None` if all leave from the
    /// one address this is bound to, or none can.
    pub(super) fn usual_source(&self, client: SocketAddr) -> Option<IpAddr> {
        let local = self.udp.local_addr().ok().filter(|_| self.is_unspecified)?;
        let trial = UdpSocket::bind(SocketAddr::new(local.ip(), 0)).ok()?;
        trial.connect(client).ok()?;
        Some(trial.local_addr().ok()?.ip())
    }

    /// Sends a parcel. Waits while the kernel's queue is full, which slows this worker down and nobody else. What
    /// cannot be sent at all is lost, like any datagram.
    pub(super) fn send(&self, parcel: &Parcel) {
        let segments = MOST_SEGMENTS.min(LARGEST_SEND / parcel.stride()).max(1);
        let segments = if self.segments { segments } else { 1 };
        for window in parcel.bytes().chunks(segments * parcel.stride()) {
            let is_one = window.len() <= parcel.stride();
            let cut = self.cut_into(if is_one { 0 } else { parcel.stride() as u16 });
            let sent = cut.and_then(|()| self.transmit(parcel, window));
            // Not every way out can have a window cut: IPsec's, or one with a smaller MTU. One that is full cannot take
            // the datagrams either.
            if !is_one && sent.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                let _ = self.cut_into(0);
                for datagram in window.chunks(parcel.stride()) {
                    let _ = self.transmit(parcel, datagram);
                }
            }
        }
    }

    /// Has the kernel cut what is sent from now on into datagrams of this length, or not at all. Clients that come at
    /// once mostly are of one kind: to tell the kernel when it changes costs less than to tell it with each window.
    fn cut_into(&self, length: u16) -> io::Result<()> {
        if self.cut.get() != length {
            setsockopt(&self.udp, UdpGsoSegment, &length.into())?;
            self.cut.set(length);
        }
        Ok(())
    }

    fn transmit(&self, parcel: &Parcel, bytes: &[u8]) -> io::Result<usize> {
        let Parcel { to, from, .. } = parcel;
        let Some(source) = from.filter(|_| self.is_unspecified).map(Source::from) else {
            return Ok(rustix::net::sendto(&self.udp, bytes, SendFlags::empty(), to)?);
        };
        let (slices, to) = ([IoSlice::new(bytes)], SockaddrStorage::from(*to));
        Ok(sendmsg(self.udp.as_raw_fd(), &slices, &[source.told()], MsgFlags::empty(), Some(&to))?)
    }
}

fn socket_address(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from(*v4));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from(*v6)))
}

/// The address a datagram has to come from, as the kernel wants to be told.
enum Source {
    V4(in_pktinfo),
    V6(in6_pktinfo),
}

impl Source {
    fn told(&self) -> ControlMessage<'_> {
        match self {
            Self::V4(info) => ControlMessage::Ipv4PacketInfo(info),
            Self::V6(info) => ControlMessage::Ipv6PacketInfo(info),
        }
    }
}

impl From<IpAddr> for Source {
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
    fn the_kernel_cuts_windows_and_nothing_else() {
        let bound = || bind("127.0.0.1:0".parse().expect("an address")).expect("binds");
        let (ours, client) = (Socket::for_transfers(bound()).expect("a socket"), bound());
        assert!(ours.segments, "this kernel does not cut");
        client.set_read_timeout(Some(Duration::from_secs(5))).expect("is set");
        let mut parcel = Parcel::new();
        parcel.address(client.local_addr().expect("an address"), None);
        // Bytes in all, bytes of one: a window with a short end, a block that is longer, a window again.
        for (all, each, cut, lengths) in [
            (2500, 1000, 1000, &[1000, 1000, 500][..]),
            (1400, 1400, 0, &[1400]),
            (600, 300, 300, &[300, 300]),
            (900, 1400, 0, &[900]),
        ] {
            parcel.put_shared(Bytes::from(vec![7; all]), each);
            ours.send(&parcel);
            assert_eq!(ours.cut.get(), cut);
            let mut packet = [0; ROOM];
            for length in lengths {
                assert_eq!(client.recv(&mut packet).expect("is received"), *length);
            }
        }
    }
}
