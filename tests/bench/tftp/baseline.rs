//! Baseline: the minimum that a TFTP server can do, a single-threaded loop that receives and sends.
//!
//! No timers, limits, events or validation. Its processor time is the price of two system calls per client packet.
//! The difference to another server is the cost of that server's own work.

use std::collections::HashMap;
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

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
            let request = String::from_utf8_lossy(&packet[..length]);
            let window = request.split('\0').skip_while(|field| *field != "windowsize").nth(1).unwrap_or("1");
            windows.insert(client, window.parse().unwrap_or(1));
            let oack = format!("\0\x06blksize\0{BLOCK_SIZE}\0windowsize\0{window}\0");
            send(&socket, client, oack.as_bytes());
        }
    }
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
