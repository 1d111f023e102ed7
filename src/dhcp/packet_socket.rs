//! [`PacketSocket`]: receives the replies of other DHCP servers, which are addressed to the clients.
//!
//! A packet socket needs CAP_NET_RAW. A filter in the kernel (BPF) passes the replies only. Packets that this host sends are
//! not received, so volboot's own answers are not either.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::libc::{
    BPF_ABS, BPF_B, BPF_H, BPF_IND, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
    ETH_P_IP,
};
use nix::sys::socket::{LinkAddr, recvfrom};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::ports::{CLIENT_PORT, SERVER_PORT};

/// The longest packet: replies have at most 1500 bytes.
const MAX_PACKET: usize = 2048;
/// Most packets that are received before other sockets get their turn.
const MAX_PACKETS_PER_TURN: usize = 64;
/// The protocol number of UDP.
const UDP: u32 = 17;
/// Flags and offset of a fragment.
const FRAGMENT: u32 = 0x3fff;
/// The opcode of a reply (RFC 2131, §2).
const BOOT_REPLY: u32 = 2;

/// A socket that receives the IPv4 packets of DHCP servers to clients, of all interfaces.
#[derive(Debug)]
pub(super) struct PacketSocket(Socket);

impl PacketSocket {
    /// Opens the socket, which needs CAP_NET_RAW.
    pub(super) fn open() -> io::Result<Self> {
        // Packets before the filter are read like the others: a reply is parsed without trust.
        let protocol = Protocol::from(i32::from((ETH_P_IP as u16).to_be()));
        let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
        socket.attach_filter(&reply_filter())?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// Receives the queued packets, each with the index of its interface, up to a limit.
    pub(super) fn receive(&self, mut take: impl FnMut(&[u8], i32)) {
        let mut packet = [0; MAX_PACKET];
        for _ in 0..MAX_PACKETS_PER_TURN {
            // An error is an empty queue, or an interface that is gone.
            let Ok((length, Some(address))) = recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut packet) else {
                return;
            };
            if let (Some(packet), Ok(interface)) = (packet.get(..length), i32::try_from(address.ifindex())) {
                take(packet, interface);
            }
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Passes unfragmented UDP packets of IPv4 from port 67 to port 68 with a BOOTREPLY.
fn reply_filter() -> [SockFilter; 13] {
    /// The index of the instruction that drops the packet.
    const DROP: u8 = 12;
    let load = |mode: u32, at: u32| SockFilter::new((BPF_LD | mode) as u16, 0, 0, at);
    // The instruction at `index` goes on if the loaded value is `value`.
    let require = |index: u8, value: u32| {
        SockFilter::new((BPF_JMP | BPF_JEQ | BPF_K) as u16, 0, DROP - index - 1, value)
    };
    let end = |length: u32| SockFilter::new((BPF_RET | BPF_K) as u16, 0, 0, length);
    [
        load(BPF_B | BPF_ABS, 9),
        require(1, UDP),
        load(BPF_H | BPF_ABS, 6),
        SockFilter::new((BPF_JMP | BPF_JSET | BPF_K) as u16, DROP - 4, 0, FRAGMENT),
        // The length of the IP header, as the base of the next loads.
        SockFilter::new((BPF_LDX | BPF_B | BPF_MSH) as u16, 0, 0, 0),
        load(BPF_H | BPF_IND, 0),
        require(6, SERVER_PORT.into()),
        load(BPF_H | BPF_IND, 2),
        require(8, CLIENT_PORT.into()),
        // After the header of UDP.
        load(BPF_B | BPF_IND, 8),
        require(10, BOOT_REPLY),
        end(MAX_PACKET as u32),
        end(0),
    ]
}
