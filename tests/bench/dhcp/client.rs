//! [`Machines`]: UEFI machines that ask a ProxyDHCP server, on a host of their own.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::unistd::gettid;

use crate::lab::network::{SERVER, ip, plug_thread};

const CABLE: &str = "machines";
/// All machines share an address: the server tells them apart by their network cards.
const ADDRESS: &str = "10.99.0.200/24";
/// The first repetition of a request, as EDK2 does.
const RETRY: Duration = Duration::from_secs(4);
const TRIES: u32 = 5;

/// Jobs for the machines: their number, and how many are concurrent.
pub(crate) struct Machines {
    jobs: Sender<(u32, usize)>,
    results: Receiver<Result<u32>>,
}

impl Machines {
    /// Connects the machines to the bridge. Must be called from the lab's thread.
    pub(crate) fn connect() -> Result<Self> {
        let (jobs, queue) = channel();
        let (result_sender, results) = channel();
        let (thread_sender, thread) = channel();
        let (cable_sender, cable) = channel();
        thread::spawn(move || {
            thread_sender.send(unshare(CloneFlags::CLONE_NEWNET).map(|()| gettid())).ok();
            let socket = cable.recv().map_err(|_| anyhow!("no cable")).and_then(|()| open_socket());
            let mut serial = 0;
            for (count, concurrent) in queue {
                let result = match &socket {
                    Ok(socket) => boot(socket, &mut serial, count, concurrent),
                    Err(error) => Err(anyhow!("no socket: {error:#}")),
                };
                result_sender.send(result).ok();
            }
        });
        plug_thread(CABLE, thread.recv()?.context("cannot create a network namespace")?)?;
        cable_sender.send(())?;
        Ok(Self { jobs, results })
    }

    /// Each of `count` machines gets an offer and the name of its file. Returns the number of repeated requests.
    pub(crate) fn boot(&self, count: u32, concurrent: usize) -> Result<u32> {
        self.jobs.send((count, concurrent))?;
        self.results.recv()?
    }
}

fn open_socket() -> Result<UdpSocket> {
    ip(&["link", "set", CABLE, "up"])?;
    ip(&["address", "add", ADDRESS, "dev", CABLE])?;
    ip(&["route", "add", "255.255.255.255", "dev", CABLE])?;
    let socket = UdpSocket::bind("0.0.0.0:68")?;
    socket.set_broadcast(true)?;
    setsockopt(&socket.as_fd(), RcvBufForce, &(64 << 20))?;
    Ok(socket)
}

fn boot(socket: &UdpSocket, serial: &mut u32, count: u32, concurrent: usize) -> Result<u32> {
    let mut repeated = 0;
    let numbers: Vec<u32> = (0..count).map(|number| *serial + number).collect();
    *serial += count;
    for batch in numbers.chunks(concurrent) {
        let broadcast = SocketAddrV4::new(Ipv4Addr::BROADCAST, 67);
        repeated += exchange(socket, batch, 1, broadcast)?;
        repeated += exchange(socket, batch, 3, SocketAddrV4::new(SERVER, 4011))?;
    }
    Ok(repeated)
}

/// Sends a request of each machine, until all have an answer. Returns the number of repeated requests.
fn exchange(socket: &UdpSocket, machines: &[u32], message_type: u8, to: SocketAddrV4) -> Result<u32> {
    let mut waiting: HashSet<u32> = machines.iter().copied().collect();
    let mut packet = [0; 1500];
    let mut repeated = 0;
    for attempt in 0..TRIES {
        if attempt > 0 {
            repeated += waiting.len() as u32;
        }
        for number in waiting.clone() {
            socket.send_to(&build_request(number, message_type), to)?;
        }
        let deadline = Instant::now() + RETRY;
        while !waiting.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            socket.set_read_timeout(Some(left))?;
            let Ok((length, _)) = socket.recv_from(&mut packet) else { break };
            ensure!(length >= 300 && packet[16..20] == [0; 4], "not the answer of a ProxyDHCP server");
            let [a, b, c, d] = [packet[4], packet[5], packet[6], packet[7]];
            waiting.remove(&u32::from_be_bytes([a, b, c, d]));
        }
        if waiting.is_empty() {
            return Ok(repeated);
        }
    }
    Err(anyhow!("{} machines got no answer", waiting.len()))
}

/// The request of a UEFI machine, as EDK2 sends it.
fn build_request(number: u32, message_type: u8) -> Vec<u8> {
    let mut packet = vec![1, 1, 6, 0];
    packet.extend(number.to_be_bytes());
    packet.extend([0, 0, if message_type == 1 { 0x80 } else { 0 }, 0]);
    packet.resize(28, 0);
    packet.extend([2, 0]);
    packet.extend(number.to_be_bytes());
    packet.resize(236, 0);
    packet.extend([99, 130, 83, 99, 53, 1, message_type, 57, 2, 5, 0xc0]);
    packet.extend([55, 7, 1, 3, 43, 60, 66, 67, 97, 97, 17, 0]);
    packet.extend([number.to_be_bytes(); 4].concat());
    packet.extend([94, 3, 1, 3, 16, 93, 2, 0, 7, 60, 32]);
    packet.extend(b"PXEClient:Arch:00007:UNDI:003016");
    packet.push(255);
    packet.resize(packet.len().max(347), 0);
    packet
}
