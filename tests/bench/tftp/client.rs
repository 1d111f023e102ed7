//! Simulated TFTP clients with any block size, window size and random packet loss.
//!
//! Where the protocol leaves a choice, the clients behave like iPXE: they retransmit their last packet after 0.25 s,
//! with exponential back-off. One thread runs all clients and, without loss, never sleeps. A server that wakes a
//! client on the same machine pays more for the wake-up than for the packet. With remote machines, no such cost
//! exists.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// Options and packet loss of a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientConfig {
    pub(crate) block_size: u16,
    pub(crate) window_size: u16,
    /// Share of packets lost, each way.
    pub(crate) loss: f64,
}

impl ClientConfig {
    pub(crate) const LOCKSTEP: Self = Self { block_size: 1432, window_size: 1, loss: 0.0 };

    pub(crate) fn request(self) -> Vec<u8> {
        let Self { block_size, window_size, .. } = self;
        let mut packet = format!("\0\x01file\0octet\0blksize\0{block_size}\0tsize\x000\0").into_bytes();
        if window_size > 1 {
            packet.extend_from_slice(format!("windowsize\0{window_size}\0").as_bytes());
        }
        packet
    }
}

/// A socket with an address of its own: the server limits the bytes for an address whose clients do not answer.
pub(crate) fn socket_at(number: u16) -> UdpSocket {
    let [high, low] = number.to_be_bytes();
    UdpSocket::bind(SocketAddr::from(([127, 70, high, low], 0))).expect("a socket on the loopback interface")
}

/// A socket on the loopback interface.
pub(crate) fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a socket on the loopback interface")
}

/// Reads the file `transfers` times with `clients` concurrent clients, and compares every byte. Returns the sorted
/// durations and the failures.
pub(crate) fn run_clients(
    server: SocketAddr,
    config: ClientConfig,
    file: &[u8],
    transfers: usize,
    clients: usize,
) -> (Vec<Duration>, Vec<String>) {
    let mut started = 0;
    let mut running: Vec<Client<'_>> = Vec::new();
    let (mut times, mut failures) = (Vec::new(), Vec::new());
    while started < transfers || !running.is_empty() {
        while running.len() < clients && started < transfers {
            started += 1;
            running.push(Client::begin(server, config, file, started as u64));
        }
        let mut is_active = false;
        running.retain_mut(|client| match client.poll() {
            Progress::Idle => true,
            Progress::Active => {
                is_active = true;
                true
            }
            Progress::Done => {
                times.push(client.started_at.elapsed());
                false
            }
            Progress::Failed(failure) => {
                failures.push(failure);
                false
            }
        });
        if !is_active && config.loss > 0.0 {
            thread::sleep(Duration::from_micros(200));
        }
    }
    times.sort();
    (times, failures)
}

/// A client that reads a file.
struct Client<'a> {
    socket: UdpSocket,
    server: SocketAddr,
    /// The server's transfer port.
    peer: Option<SocketAddr>,
    loss: f64,
    rng: Rng,
    file: &'a [u8],
    block_size: usize,
    window_size: u64,
    last_block: u64,
    since_ack: u64,
    gap_acked: bool,
    /// The last packet, and the time of its retransmission.
    last_packet: Vec<u8>,
    rto: Duration,
    retransmit_at: Instant,
    started_at: Instant,
    last_data_at: Instant,
}

enum Progress {
    Idle,
    Active,
    Done,
    Failed(String),
}

impl<'a> Client<'a> {
    fn begin(server: SocketAddr, config: ClientConfig, file: &'a [u8], seed: u64) -> Self {
        let socket = socket_at(seed as u16);
        socket.set_nonblocking(true).expect("a socket");
        let now = Instant::now();
        let mut client = Self {
            socket,
            server,
            peer: None,
            loss: config.loss,
            rng: Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            file,
            block_size: 512,
            window_size: 1,
            last_block: 0,
            since_ack: 0,
            gap_acked: false,
            last_packet: config.request(),
            rto: INITIAL_RTO,
            retransmit_at: now,
            started_at: now,
            last_data_at: now,
        };
        client.send();
        client
    }

    /// Handles at most one packet.
    fn poll(&mut self) -> Progress {
        let mut packet = [0; 2048];
        match self.socket.recv_from(&mut packet) {
            Ok(_) if self.rng.hits(self.loss) => Progress::Idle,
            Ok((length, from)) => self.receive(&packet[..length], from),
            // No packet, or an ICMP error from a closed port.
            Err(_) => self.check_timer(),
        }
    }

    fn check_timer(&mut self) -> Progress {
        let now = Instant::now();
        if now < self.retransmit_at {
            return Progress::Idle;
        }
        if now > self.last_data_at + STALL_TIMEOUT {
            return Progress::Failed(format!(
                "no data for {STALL_TIMEOUT:?} after block {}",
                self.last_block
            ));
        }
        self.rto = (self.rto * 2).min(MAX_RTO);
        self.send();
        Progress::Active
    }

    fn receive(&mut self, packet: &[u8], from: SocketAddr) -> Progress {
        let peer = *self.peer.get_or_insert(from);
        if peer != from {
            return Progress::Idle;
        }
        match packet {
            [0, 6, options @ ..] if self.last_block == 0 => {
                self.block_size = option(options, "blksize").unwrap_or(512);
                self.window_size = option(options, "windowsize").unwrap_or(1) as u64;
                self.acknowledge();
                Progress::Active
            }
            [0, 3, high, low, data @ ..] => self.receive_block(u16::from_be_bytes([*high, *low]), data),
            [0, 5, ..] => Progress::Failed(String::from_utf8_lossy(&packet[4..]).into_owned()),
            _ => Progress::Idle,
        }
    }

    fn receive_block(&mut self, number: u16, data: &[u8]) -> Progress {
        self.last_data_at = Instant::now();
        if number != (self.last_block + 1) as u16 {
            // RFC 7440: acknowledge the start of a gap once.
            if self.window_size > 1 && !self.gap_acked {
                self.gap_acked = true;
                self.acknowledge();
            }
            return Progress::Active;
        }
        let offset = self.last_block as usize * self.block_size;
        if self.file.get(offset..offset + data.len()) != Some(data) {
            return Progress::Failed(format!("block {} has wrong content", self.last_block + 1));
        }
        self.last_block += 1;
        self.since_ack += 1;
        self.gap_acked = false;
        let is_last = data.len() < self.block_size;
        if is_last || self.since_ack == self.window_size {
            self.acknowledge();
        }
        match (is_last, offset + data.len() == self.file.len()) {
            (false, _) => Progress::Active,
            (true, true) => Progress::Done,
            (true, false) => Progress::Failed("the file is too short".into()),
        }
    }

    fn acknowledge(&mut self) {
        let [high, low] = (self.last_block as u16).to_be_bytes();
        self.last_packet = vec![0, 4, high, low];
        self.since_ack = 0;
        self.rto = INITIAL_RTO;
        self.send();
    }

    fn send(&mut self) {
        self.retransmit_at = Instant::now() + self.rto;
        if !self.rng.hits(self.loss) {
            let _ = self.socket.send_to(&self.last_packet, self.peer.unwrap_or(self.server));
        }
    }
}

const INITIAL_RTO: Duration = Duration::from_millis(250);
const MAX_RTO: Duration = Duration::from_secs(4);
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the value of an option in an OACK.
fn option(options: &[u8], name: &str) -> Option<usize> {
    let mut fields = options.split(|&byte| byte == 0);
    while let (Some(key), Some(value)) = (fields.next(), fields.next()) {
        if key == name.as_bytes() {
            return std::str::from_utf8(value).ok()?.parse().ok();
        }
    }
    None
}

/// xorshift64: equal seeds give equal losses.
struct Rng(u64);

impl Rng {
    fn hits(&mut self, share: f64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        share > 0.0 && (self.0 >> 11) as f64 / (1_u64 << 53) as f64 <= share
    }
}
