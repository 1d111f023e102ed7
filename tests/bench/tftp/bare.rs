//! The least a TFTP server can do: a loop of one thread that receives and sends, and looks at nothing else.
//!
//! No timers, no limits, no events, no check of what came. What this uses is the price of two system calls for each
//! answer of a client; what a real server uses more is its own doing.

use std::collections::HashMap;
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

const BLOCK: usize = 1432;
const PACKET: usize = BLOCK + 4;

pub(crate) fn serve(address: SocketAddr, file: &[u8]) {
    let socket = UdpSocket::bind(address).expect("a free port");
    let cut = cut(file);
    let mut windows = HashMap::new();
    let mut packet = [0; 2048];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
        if let [0, 4, high, low] = packet[..length] {
            let window = windows.get(&client).copied().unwrap_or(1);
            let acked = usize::from(u16::from_be_bytes([high, low]));
            let bound = |blocks: usize| cut.len().min(blocks * PACKET);
            send(&socket, client, &cut[bound(acked)..bound(acked + window)]);
        } else {
            let request = String::from_utf8_lossy(&packet[..length]);
            let window = request.split('\0').skip_while(|field| *field != "windowsize").nth(1).unwrap_or("1");
            windows.insert(client, window.parse().unwrap_or(1));
            send(&socket, client, format!("\0\x06blksize\0{BLOCK}\0windowsize\0{window}\0").as_bytes());
        }
    }
}

/// All packets of the file, end to end.
fn cut(file: &[u8]) -> Vec<u8> {
    let blocks = file.chunks(BLOCK).zip(1_u16..);
    blocks.flat_map(|(data, number)| [&[0, 3], &number.to_be_bytes()[..], data].concat()).collect()
}

fn send(socket: &UdpSocket, client: SocketAddr, packets: &[u8]) {
    if packets.len() > PACKET {
        let segment = PACKET as u16;
        let (slices, told) = ([IoSlice::new(packets)], [ControlMessage::UdpGsoSegments(&segment)]);
        let to = SockaddrStorage::from(client);
        let _ = sendmsg(socket.as_raw_fd(), &slices, &told, MsgFlags::empty(), Some(&to));
    } else if !packets.is_empty() {
        let _ = socket.send_to(packets, client);
    }
}
