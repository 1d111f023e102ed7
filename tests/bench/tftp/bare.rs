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

pub(crate) fn serve(address: SocketAddr, file: &[u8]) {
    let socket = UdpSocket::bind(address).expect("a free port");
    let mut windows = HashMap::new();
    let mut packet = [0; 2048];
    let mut out = Vec::new();
    loop {
        let Ok((length, client)) = socket.recv_from(&mut packet) else { continue };
        out.clear();
        if let [0, 4, high, low] = packet[..length] {
            let window = windows.get(&client).copied().unwrap_or(1);
            let acked = usize::from(u16::from_be_bytes([high, low]));
            for block in acked + 1..=acked + window {
                let Some(rest) = file.get((block - 1) * BLOCK..) else { break };
                out.extend_from_slice(&[0, 3]);
                out.extend_from_slice(&(block as u16).to_be_bytes());
                out.extend_from_slice(&rest[..rest.len().min(BLOCK)]);
            }
        } else {
            let request = String::from_utf8_lossy(&packet[..length]);
            let window = request.split('\0').skip_while(|field| *field != "windowsize").nth(1).unwrap_or("1");
            windows.insert(client, window.parse().unwrap_or(1));
            out.extend_from_slice(format!("\0\x06blksize\0{BLOCK}\0windowsize\0{window}\0").as_bytes());
        }
        if out.len() > BLOCK + 4 {
            let segment = (BLOCK + 4) as u16;
            let (slices, told) = ([IoSlice::new(&out)], [ControlMessage::UdpGsoSegments(&segment)]);
            let to = SockaddrStorage::from(client);
            let _ = sendmsg(socket.as_raw_fd(), &slices, &told, MsgFlags::empty(), Some(&to));
        } else if !out.is_empty() {
            let _ = socket.send_to(&out, client);
        }
    }
}
