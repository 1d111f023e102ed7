//! TFTP clients that do what they are told: any block size and window, and a line that loses packets by the dice.
//!
//! They behave as iPXE does where the protocol leaves a choice: they say their last word again after 0.25 s, doubling.
//! One thread plays all of them and, on a clean line, never sleeps: a server that wakes a client on the same machine
//! would pay for that wake more than for the packet, which no server of remote machines does.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// What to ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    pub(crate) block: u16,
    pub(crate) window: u16,
    /// Share of packets lost, each way.
    pub(crate) loss: f64,
}

impl Wish {
    pub(crate) const LOCKSTEP: Self = Self { block: 1432, window: 1, loss: 0.0 };

    pub(crate) fn request(self) -> Vec<u8> {
        let Self { block, window, .. } = self;
        let mut packet = format!("\0\x01file\0octet\0blksize\0{block}\0tsize\x000\0").into_bytes();
        if window > 1 {
            packet.extend_from_slice(format!("windowsize\0{window}\0").as_bytes());
        }
        packet
    }
}

/// A socket on the loopback address of the same family as `server`.
pub(crate) fn socket() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").expect("a socket on the loopback interface")
}

/// Reads the file `transfers` times, by `clients` at a time, and compares every byte. What each took, sorted, and what
/// went wrong.
pub(crate) fn swarm(
    server: SocketAddr,
    wish: Wish,
    file: &[u8],
    transfers: usize,
    clients: usize,
) -> (Vec<Duration>, Vec<String>) {
    let mut begun = 0;
    let mut running: Vec<Fetch<'_>> = Vec::new();
    let (mut times, mut faults) = (Vec::new(), Vec::new());
    while begun < transfers || !running.is_empty() {
        while running.len() < clients && begun < transfers {
            begun += 1;
            running.push(Fetch::begin(server, wish, file, begun as u64));
        }
        let mut moved = false;
        running.retain_mut(|fetch| match fetch.turn() {
            Turn::Idle => true,
            Turn::Moved => {
                moved = true;
                true
            }
            Turn::Done => {
                times.push(fetch.began.elapsed());
                false
            }
            Turn::Failed(fault) => {
                faults.push(fault);
                false
            }
        });
        if !moved && wish.loss > 0.0 {
            thread::sleep(Duration::from_micros(200));
        }
    }
    times.sort();
    (times, faults)
}

/// One client, reading one file.
struct Fetch<'a> {
    socket: UdpSocket,
    server: SocketAddr,
    /// The port that answered.
    peer: Option<SocketAddr>,
    loss: f64,
    dice: Dice,
    file: &'a [u8],
    block: usize,
    window: u64,
    got: u64,
    since_ack: u64,
    gap_told: bool,
    /// What was said last, and when to say it again.
    word: Vec<u8>,
    wait: Duration,
    say_again_at: Instant,
    began: Instant,
    heard: Instant,
}

enum Turn {
    Idle,
    Moved,
    Done,
    Failed(String),
}

impl<'a> Fetch<'a> {
    fn begin(server: SocketAddr, wish: Wish, file: &'a [u8], seed: u64) -> Self {
        let socket = socket();
        socket.set_nonblocking(true).expect("a socket");
        let now = Instant::now();
        let mut fetch = Self {
            socket,
            server,
            peer: None,
            loss: wish.loss,
            dice: Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            file,
            block: 512,
            window: 1,
            got: 0,
            since_ack: 0,
            gap_told: false,
            word: wish.request(),
            wait: FIRST_WAIT,
            say_again_at: now,
            began: now,
            heard: now,
        };
        fetch.say();
        fetch
    }

    /// Takes at most one packet.
    fn turn(&mut self) -> Turn {
        let mut packet = [0; 2048];
        match self.socket.recv_from(&mut packet) {
            Ok(_) if self.dice.says(self.loss) => Turn::Idle,
            Ok((length, from)) => self.hear(&packet[..length], from),
            // Nothing there, or the port of a dead transfer said so.
            Err(_) => self.wait(),
        }
    }

    fn wait(&mut self) -> Turn {
        let now = Instant::now();
        if now < self.say_again_at {
            return Turn::Idle;
        }
        if now > self.heard + PATIENCE {
            return Turn::Failed(format!("nothing for {PATIENCE:?} after block {}", self.got));
        }
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.say();
        Turn::Moved
    }

    fn hear(&mut self, packet: &[u8], from: SocketAddr) -> Turn {
        let peer = *self.peer.get_or_insert(from);
        if peer != from {
            return Turn::Idle;
        }
        match packet {
            [0, 6, options @ ..] if self.got == 0 => {
                self.block = option(options, "blksize").unwrap_or(512);
                self.window = option(options, "windowsize").unwrap_or(1) as u64;
                self.acknowledge();
                Turn::Moved
            }
            [0, 3, high, low, data @ ..] => self.hear_block(u16::from_be_bytes([*high, *low]), data),
            [0, 5, ..] => Turn::Failed(String::from_utf8_lossy(&packet[4..]).into_owned()),
            _ => Turn::Idle,
        }
    }

    fn hear_block(&mut self, number: u16, data: &[u8]) -> Turn {
        self.heard = Instant::now();
        if number != (self.got + 1) as u16 {
            // RFC 7440: tell once where the gap begins.
            if self.window > 1 && !self.gap_told {
                self.gap_told = true;
                self.acknowledge();
            }
            return Turn::Moved;
        }
        let at = self.got as usize * self.block;
        if self.file.get(at..at + data.len()) != Some(data) {
            return Turn::Failed(format!("block {} has other bytes", self.got + 1));
        }
        self.got += 1;
        self.since_ack += 1;
        self.gap_told = false;
        let is_last = data.len() < self.block;
        if is_last || self.since_ack == self.window {
            self.acknowledge();
        }
        match (is_last, at + data.len() == self.file.len()) {
            (false, _) => Turn::Moved,
            (true, true) => Turn::Done,
            (true, false) => Turn::Failed("too short".into()),
        }
    }

    fn acknowledge(&mut self) {
        let [high, low] = (self.got as u16).to_be_bytes();
        self.word = vec![0, 4, high, low];
        self.since_ack = 0;
        self.wait = FIRST_WAIT;
        self.say();
    }

    fn say(&mut self) {
        self.say_again_at = Instant::now() + self.wait;
        if !self.dice.says(self.loss) {
            let _ = self.socket.send_to(&self.word, self.peer.unwrap_or(self.server));
        }
    }
}

const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

/// The value of one option of an OACK.
fn option(options: &[u8], name: &str) -> Option<usize> {
    let mut fields = options.split(|&byte| byte == 0);
    while let (Some(key), Some(value)) = (fields.next(), fields.next()) {
        if key == name.as_bytes() {
            return std::str::from_utf8(value).ok()?.parse().ok();
        }
    }
    None
}

/// xorshift64: the same seed, the same losses.
struct Dice(u64);

impl Dice {
    fn says(&mut self, share: f64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        share > 0.0 && (self.0 >> 11) as f64 / (1_u64 << 53) as f64 <= share
    }
}
