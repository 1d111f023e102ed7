//! Baselines: the minimum that a TFTP server can do, a single-threaded loop that receives and sends.
//!
//! No timers, limits, events or validation. [`serve`] has one socket for all clients: its processor time is the price of
//! two system calls per client packet. [`serve_with_sockets`] has a connected socket for each transfer, as a random port
//! per transfer requires: a wait is added, whose price the ready sockets share. The difference to another server is the
//! cost of that server's own work.

use std::collections::HashMap;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use rustix::event::epoll;

const BLOCK_SIZE: usize = 1432;
const PACKET_SIZE: usize = BLOCK_SIZE + 4;

pub(crate) fn serve(address: SocketAddr, file: &[u8]) {
    let socket = UdpSocket::bind(address).expect("a free port");
    let packets = build_packets(file);
    let mut windows = HashMap::new();
    let mut packet = [0; 2048];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
        if let [0, 4, high, low] = packet[..length] {
            let window = windows.get(&client).copied().unwrap_or(1);
            let acked = usize::from(u16::from_be_bytes([high, low]));
            let offset = |blocks: usize| packets.len().min(blocks * PACKET_SIZE);
            send(&socket, client, &packets[offset(acked)..offset(acked + window)]);
        } else {
            let (window, oack) = negotiate(&packet[..length]);
            windows.insert(client, window);
            send(&socket, client, oack.as_bytes());
        }
    }
}

/// A transfer with a socket of its own.
struct Connection {
    socket: UdpSocket,
    window: usize,
}

/// Token of the listen socket.
const REQUESTS: u64 = u64::MAX;

pub(crate) fn serve_with_sockets(address: SocketAddr, file: &[u8]) {
    let requests = UdpSocket::bind(address).expect("a free port");
    let packets = build_packets(file);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance");
    let add = |socket: &UdpSocket, token| {
        let token = epoll::EventData::new_u64(token);
        epoll::add(&epoll, socket, token, epoll::EventFlags::IN).expect("a socket to watch");
    };
    add(&requests, REQUESTS);
    let mut connections: HashMap<u64, Connection> = HashMap::new();
    let (mut packet, mut serial) = ([0; 2048], 0);
    loop {
        let mut events = [MaybeUninit::uninit(); 256];
        let Ok((events, _)) = epoll::wait(&epoll, &mut events, None) else { continue };
        for event in events {
            let token = event.data.u64();
            if token == REQUESTS {
                let (length, client) = requests.recv_from(&mut packet).expect("a request");
                let socket = UdpSocket::bind((address.ip(), 0)).expect("a free port");
                socket.connect(client).expect("a route to the client");
                let (window, oack) = negotiate(&packet[..length]);
                let _ = socket.send(oack.as_bytes());
                serial += 1;
                add(&socket, serial);
                connections.insert(serial, Connection { socket, window });
                continue;
            }
            let Some(Connection { socket, window }) = connections.get(&token) else { continue };
            let Ok(4) = socket.recv(&mut packet) else { continue };
            let acked = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
            let offset = |blocks: usize| packets.len().min(blocks * PACKET_SIZE);
            let window = &packets[offset(acked)..offset(acked + window)];
            if window.is_empty() {
                connections.remove(&token);
            } else if window.len() > PACKET_SIZE {
                let segment_size = PACKET_SIZE as u16;
                let (slices, control) =
                    ([IoSlice::new(window)], [ControlMessage::UdpGsoSegments(&segment_size)]);
                let _ = sendmsg::<SockaddrStorage>(
                    socket.as_raw_fd(),
                    &slices,
                    &control,
                    MsgFlags::empty(),
                    None,
                );
            } else {
                let _ = socket.send(window);
            }
        }
    }
}

/// Returns the window that a request asks for, and the OACK.
fn negotiate(request: &[u8]) -> (usize, String) {
    let request = String::from_utf8_lossy(request);
    let window = request.split('\0').skip_while(|field| *field != "windowsize").nth(1).unwrap_or("1");
    let oack = format!("\0\x06blksize\0{BLOCK_SIZE}\0windowsize\0{window}\0");
    (window.parse().unwrap_or(1), oack)
}

/// Builds all packets of the file, end to end.
fn build_packets(file: &[u8]) -> Vec<u8> {
    let blocks = file.chunks(BLOCK_SIZE).zip(1_u16..);
    blocks.flat_map(|(data, number)| [&[0, 3], &number.to_be_bytes()[..], data].concat()).collect()
}

fn send(socket: &UdpSocket, client: SocketAddr, packets: &[u8]) {
    if packets.len() > PACKET_SIZE {
        let segment_size = PACKET_SIZE as u16;
        let slices = [IoSlice::new(packets)];
        let control_messages = [ControlMessage::UdpGsoSegments(&segment_size)];
        let destination = SockaddrStorage::from(client);
        let _ =
            sendmsg(socket.as_raw_fd(), &slices, &control_messages, MsgFlags::empty(), Some(&destination));
    } else if !packets.is_empty() {
        let _ = socket.send_to(packets, client);
    }
}
