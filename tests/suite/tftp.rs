//! The TFTP door over real sockets: real clients, and by hand what no real one does on demand.
//!
//! Everything stays on the loopback interface, on ports the system chooses.

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use volboot::tftp::{Config, Event, Files, Listener, Outcome, Ports, ReadRequest};

/// One file whose content can be replaced.
struct Shelf(Mutex<Bytes>);

impl Files for Shelf {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        (request.name == b"dir/file").then(|| self.0.lock().expect("not poisoned").clone())
    }
}

struct Door {
    address: SocketAddr,
    shelf: Arc<Shelf>,
    events: mpsc::Receiver<Event>,
    stop: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

impl Door {
    fn open(config: &Config) -> Self {
        Self::with_grace(config, Duration::from_secs(2))
    }

    fn with_grace(config: &Config, grace: Duration) -> Self {
        let listener = Listener::bind(config).expect("a free port");
        let address = listener.local_addrs()[0];
        let shelf = Arc::new(Shelf(Mutex::new(pattern(100_000))));
        let (sender, events) = mpsc::channel(100);
        let stop = CancellationToken::new();
        let files = Arc::clone(&shelf) as Arc<dyn Files>;
        let served = tokio::spawn(listener.serve(files, sender, stop.clone(), grace));
        Self { address, shelf, events, stop, served }
    }

    fn at(listen: &str) -> Self {
        Self::open(&Config::new([listen.parse().expect("an address")]))
    }

    async fn event(&mut self) -> Event {
        let told = tokio::time::timeout(Duration::from_secs(10), self.events.recv());
        told.await.expect("an event in time").expect("a server that runs")
    }
}

/// For clients that are acknowledged packet by packet: on a slow host, too, nothing is sent twice.
fn patient(ports: Ports) -> Config {
    let mut config = Config::new(["127.0.0.1:0".parse().expect("an address")]);
    let longer_than_anybody_listens = Duration::from_secs(60);
    config.ports = ports;
    config.limits.first_wait = longer_than_anybody_listens;
    config.limits.shortest_wait = longer_than_anybody_listens;
    config.limits.longest_wait = longer_than_anybody_listens;
    config
}

fn pattern(length: u32) -> Bytes {
    (0..length).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// Runs a client program to its end without stopping the server of this runtime.
async fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await.expect("a thread");
    status.unwrap_or_else(|error| panic!("{program} is needed for this test: {error}")).success()
}

/// A client by hand.
struct Hand {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Hand {
    fn new(server: SocketAddr) -> Self {
        Self::at(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }, server)
    }

    fn at(address: &str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a wait");
        Self { socket, server }
    }

    fn ask(&self, options: &str) {
        let packet = format!("\0\x01dir/file\0octet\0{}", options.replace(' ', "\0"));
        self.socket.send_to(packet.as_bytes(), self.server).expect("a way to the server");
    }

    fn hear(&self) -> (Vec<u8>, SocketAddr) {
        let mut packet = vec![0; 70_000];
        let (length, from) = self.socket.recv_from(&mut packet).expect("an answer");
        packet.truncate(length);
        (packet, from)
    }

    fn say(&self, packet: &[u8], to: SocketAddr) {
        self.socket.send_to(packet, to).expect("a way to the server");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_a_file_with_and_without_options() {
    let mut door = Door::at("127.0.0.1:0");
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("tftp://{}/dir/file", door.address);
    for options in [&["--tftp-blksize", "1432"][..], &["--tftp-no-options"]] {
        let path = directory.path().join("got");
        let path_text = path.to_str().expect("a plain path");
        assert!(run("curl", &[&["-s", "-o", path_text], options, &[&url]].concat()).await);
        assert!(std::fs::read(&path).expect("what came") == pattern(100_000));
        assert_eq!(door.event().await.outcome, Outcome::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn atftp_reads_a_file_with_windows() {
    let mut door = Door::at("127.0.0.1:0");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("got");
    let (port, window) = (door.address.port().to_string(), "windowsize 16");
    let arguments = ["--option", "blksize 1432", "--option", window, "-g", "-r", "dir/file", "-l"];
    let arguments = [&arguments[..], &[path.to_str().expect("a plain path"), "127.0.0.1", &port]].concat();
    assert!(run("atftp", &arguments).await);
    assert!(std::fs::read(&path).expect("what came") == pattern(100_000));
    let event = door.event().await;
    assert_eq!((event.agreed.window, event.outcome), (16, Outcome::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn tftp_hpa_reads_a_file() {
    let mut door = Door::at("127.0.0.1:0");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("got");
    let port = door.address.port().to_string();
    let path_text = path.to_str().expect("a plain path");
    assert!(run("tftp", &["-m", "binary", "127.0.0.1", &port, "-c", "get", "/dir/file", path_text]).await);
    assert!(std::fs::read(&path).expect("what came") == pattern(100_000));
    assert_eq!(door.event().await.outcome, Outcome::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_leave_from_the_address_that_was_asked_on_ipv4_and_ipv6() {
    for (listen, asked) in [("0.0.0.0:0", "127.0.0.9"), ("0.0.0.0:0", "127.1.2.3"), ("[::]:0", "::1")] {
        let door = Door::at(listen);
        let hand = Hand::new(SocketAddr::new(asked.parse().expect("an address"), door.address.port()));
        hand.ask("windowsize 4 ");
        let (_, from) = hand.hear();
        assert_eq!(from.ip().to_string(), asked);
        hand.say(&[0, 4, 0, 0], from);
        for _ in 0..4 {
            assert_eq!(hand.hear().1, from);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv4_and_ipv6_listen_on_one_port_side_by_side() {
    let first =
        Listener::bind(&Config::new(["0.0.0.0:0".parse().expect("an address")])).expect("a free port");
    let port = first.local_addrs()[0].port();
    let second = Config::new([SocketAddr::new("::".parse().expect("an address"), port)]);
    assert!(Listener::bind(&second).is_ok());
    let taken = Listener::bind(&Config::new(first.local_addrs())).expect_err("a port that is taken");
    assert_eq!(taken.source.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_ends_at_once_and_its_port_may_ask_again() {
    // Nothing here can come because of a timer.
    let mut door = Door::open(&patient(Ports::Ephemeral));
    let hand = Hand::new(door.address);
    for _ in 0..300 {
        hand.ask("tsize 0 ");
        let (oack, from) = hand.hear();
        assert_eq!(oack, b"\0\x06tsize\x00100000\0");
        hand.say(b"\0\x05\0\x08User aborted the transfer\0", from);
        hand.ask("blksize 1468 ");
        assert_eq!(hand.hear().0, b"\0\x06blksize\x001468\0");
        hand.say(b"\0\x05\0\x00\0", from);
        assert_eq!(door.event().await.outcome, Outcome::Probe);
        assert!(matches!(door.event().await.outcome, Outcome::Aborted { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_come_from_a_range_of_ports_or_from_the_one_that_was_asked() {
    let mut config = Config::new(["127.0.0.1:0".parse().expect("an address")]);
    config.ports = Ports::Single;
    let door = Door::open(&config);
    let hand = Hand::new(door.address);
    hand.ask("blksize 1000 ");
    let (_, from) = hand.hear();
    assert_eq!(from, door.address);
    hand.say(&[0, 4, 0, 0], from);
    assert_eq!(hand.hear(), ([&[0, 3, 0, 1], &pattern(1000)[..]].concat(), door.address));

    config.ports = Ports::Range(42_100..=42_199);
    let door = Door::open(&config);
    let hand = Hand::new(door.address);
    hand.ask("blksize 1000 ");
    assert!((42_100..=42_199).contains(&hand.hear().1.port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_at_once_are_served_through_the_one_port_that_was_asked() {
    let mut config = patient(Ports::Single);
    config.limits.transfers_per_client = 100;
    let mut door = Door::open(&config);
    let hands: Vec<_> = (0..50).map(|_| Hand::new(door.address)).collect();
    for hand in &hands {
        hand.ask("blksize 1468 windowsize 4 ");
        let (oack, from) = hand.hear();
        assert_eq!((&oack[..2], from), (&[0, 6][..], door.address));
        hand.say(&[0, 4, 0, 0], from);
    }
    let blocks = (100_000_usize / 1468 + 1) as u8;
    let mut got = vec![Vec::new(); hands.len()];
    for block in 1..=blocks {
        for (hand, got) in hands.iter().zip(&mut got) {
            let (packet, from) = hand.hear();
            assert_eq!((packet[3], from), (block, door.address));
            got.extend_from_slice(&packet[4..]);
            if block % 4 == 0 || block == blocks {
                hand.say(&[0, 4, 0, block], from);
            }
        }
    }
    assert!(got.iter().all(|got| *got == pattern(100_000)));
    for _ in &hands {
        assert_eq!(door.event().await.outcome, Outcome::Complete);
    }
    // One more at the same port, by a client that is not ours.
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("got");
    let url = format!("tftp://{}/dir/file", door.address);
    assert!(run("curl", &["-s", "-o", path.to_str().expect("a plain path"), &url]).await);
    assert!(std::fs::read(&path).expect("what came") == pattern(100_000));
}

/// What one of several is sent, window by window.
struct Reader {
    hand: Hand,
    block_size: usize,
    window: usize,
    got: Vec<u8>,
    blocks: usize,
}

impl Reader {
    fn new(door: SocketAddr, block_size: usize, window: usize) -> Self {
        let hand = Hand::new(door);
        hand.ask(&format!("blksize {block_size} windowsize {window} "));
        assert_eq!(hand.hear().0[..2], [0, 6]);
        Self { hand, block_size, window, got: Vec::new(), blocks: 0 }
    }

    /// Acknowledges what it has, and takes what comes for that. False at the end.
    fn read_window(&mut self) -> bool {
        let [.., high, low] = self.blocks.to_be_bytes();
        self.hand.say(&[0, 4, high, low], self.hand.server);
        for _ in 0..self.window {
            self.blocks += 1;
            let [.., high, low] = self.blocks.to_be_bytes();
            // On a slow host some may come again.
            let mut heard = std::iter::repeat_with(|| self.hand.hear().0);
            let packet = heard.find(|packet| packet[..4] == [0, 3, high, low]).expect("is heard");
            self.got.extend_from_slice(&packet[4..]);
            if packet.len() < self.block_size + 4 {
                let [.., high, low] = self.blocks.to_be_bytes();
                self.hand.say(&[0, 4, high, low], self.hand.server);
                return false;
            }
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_other_blocks_and_windows_take_turns_at_one_socket() {
    let mut config = Config::new(["127.0.0.1:0".parse().expect("an address")]);
    config.ports = Ports::Single;
    let mut door = Door::open(&config);
    let kinds = [(512, 4), (1468, 16), (1024, 1), (1468, 3), (1000, 16)];
    let mut readers: Vec<_> = kinds.map(|(size, window)| Reader::new(door.address, size, window)).into();
    let mut ended = 0;
    while !readers.is_empty() {
        readers.retain_mut(|reader| {
            let goes_on = reader.read_window();
            if !goes_on {
                assert!(reader.got == pattern(100_000), "blocks of {}", reader.block_size);
                ended += 1;
            }
            goes_on
        });
    }
    assert_eq!(ended, kinds.len());
    for _ in kinds {
        assert_eq!(door.event().await.outcome, Outcome::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_door_that_is_dropped_leaves_no_thread_behind() {
    for ports in [Ports::Ephemeral, Ports::Single] {
        let mut config = Config::new(["127.0.0.1:0".parse().expect("an address")]);
        config.ports = ports;
        let door = Door::open(&config);
        let hand = Hand::new(door.address);
        hand.ask("");
        let (_, from) = hand.hear();
        hand.say(&[0, 5, 0, 0, 0], from);
        door.served.abort();
        // The shelf is held by every worker.
        let end = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&door.shelf) > 1 && Instant::now() < end {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&door.shelf), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_takes_nobody_new_and_lets_running_transfers_finish() {
    for ports in [Ports::Ephemeral, Ports::Single] {
        let mut door = Door::with_grace(&patient(ports), Duration::from_secs(20));
        let hand = Hand::new(door.address);
        hand.ask("blksize 1468 ");
        let (_, from) = hand.hear();
        *door.shelf.0.lock().expect("not poisoned") = Bytes::from_static(b"swapped meanwhile");
        door.stop.cancel();
        let mut got = Vec::new();
        hand.say(&[0, 4, 0, 0], from);
        while got.len() < 100_000 {
            let (packet, _) = hand.hear();
            got.extend_from_slice(&packet[4..]);
            hand.say(&[0, 4, packet[2], packet[3]], from);
        }
        assert!(got == pattern(100_000));
        assert_eq!(door.event().await.outcome, Outcome::Complete);
        door.served.await.expect("a task").expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_with_a_grace_that_is_over_ends_what_still_runs() {
    let mut door = Door::with_grace(&patient(Ports::Ephemeral), Duration::from_millis(100));
    let hand = Hand::new(door.address);
    hand.ask("blksize 1468 ");
    let (_, from) = hand.hear();
    hand.say(&[0, 4, 0, 0], from);
    hand.hear();
    door.stop.cancel();
    while hand.hear().0[..2] != [0, 5] {}
    assert_eq!(door.event().await.outcome, Outcome::Stopped);
    door.served.await.expect("a task").expect("a clean end");
}

/// Whoever runs this without the right to open raw sockets learns nothing about DF.
#[tokio::test(flavor = "multi_thread")]
async fn the_df_bit_is_never_set_in_single_blocks_nor_in_segmented_windows() {
    let protocol = Some(socket2::Protocol::UDP);
    let Ok(wire) = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, protocol) else {
        eprintln!("no raw socket, no look at the wire");
        return;
    };
    wire.set_read_timeout(Some(Duration::from_secs(20))).expect("a wait");
    // An address of its own: what other tests send to theirs would fill the socket.
    let own = "127.0.0.77:0";
    wire.bind(&own.parse::<SocketAddr>().expect("an address").into()).expect("is bound");
    let door = Door::open(&patient(Ports::Ephemeral));
    for (window, blocks) in [(1, 1), (16, 16)] {
        let hand = Hand::at(own, door.address);
        hand.ask(&format!("blksize 1468 windowsize {window} "));
        let (_, from) = hand.hear();
        hand.say(&[0, 4, 0, 0], from);
        (0..blocks).for_each(|_| drop(hand.hear()));
        let to = hand.socket.local_addr().expect("an address").port().to_be_bytes();
        let (mut seen, mut packet) = (0, vec![0; 70_000]);
        while seen < blocks * 1472 {
            let length = (&wire).read(&mut packet).expect("a packet on the wire");
            let (header, udp) = packet[..length].split_at(20);
            if udp[2..4] == to && udp[8..10] == [0, 3] {
                assert_eq!(header[6] & 0x40, 0, "DF is set in a packet of {length} bytes");
                seen += udp.len() - 8;
            }
        }
    }
}
