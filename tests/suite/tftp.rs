//! TFTP server over real sockets, with real clients and with a manual client for exact packet sequences.
//!
//! All sockets use the loopback interface and system-assigned ports.

use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use volboot::tftp::{FileSource, Ports, ReadRequest, Server, ServerConfig, TransferEnd, TransferEvent};

/// A file whose content a test can replace.
struct TestFiles(Mutex<Bytes>);

impl FileSource for TestFiles {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        (request.name == b"dir/file").then(|| self.0.lock().clone())
    }
}

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    files: Arc<TestFiles>,
    events: mpsc::Receiver<TransferEvent>,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl TestServer {
    pub(crate) fn start(config: &ServerConfig) -> Self {
        Self::with_grace(config, Duration::from_secs(2))
    }

    fn with_grace(config: &ServerConfig, grace: Duration) -> Self {
        let server = Server::bind(config).expect("a free port");
        let address = server.local_addrs()[0];
        let files = Arc::new(TestFiles(Mutex::new(pattern(100_000))));
        let (sender, events) = mpsc::channel(100);
        let stop = CancellationToken::new();
        let file_source = Arc::clone(&files) as Arc<dyn FileSource>;
        let task = tokio::spawn(server.serve(file_source, sender, stop.clone(), grace));
        Self { address, files, events, stop, task }
    }

    fn listen_on(listen: &str) -> Self {
        Self::start(&ServerConfig::new([listen.parse().expect("an address")]))
    }

    pub(crate) async fn next_event(&mut self) -> TransferEvent {
        let event = tokio::time::timeout(Duration::from_secs(10), self.events.recv());
        event.await.expect("an event in time").expect("a running server")
    }
}

/// For manual clients: even on a slow host, the server retransmits nothing.
pub(crate) fn config_without_retransmission(ports: Ports) -> ServerConfig {
    let mut config = ServerConfig::new(["127.0.0.1:0".parse().expect("an address")]);
    let longer_than_any_test = Duration::from_secs(60);
    config.ports = ports;
    config.limits.initial_rto = longer_than_any_test;
    config.limits.min_rto = longer_than_any_test;
    config.limits.max_rto = longer_than_any_test;
    config
}

pub(crate) fn pattern(length: u32) -> Bytes {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// Runs a client program to its end without blocking the server on this runtime.
async fn run(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let status = tokio::task::spawn_blocking(move || command.status()).await.expect("a thread");
    status.unwrap_or_else(|error| panic!("cannot run {program}, which this test needs: {error}")).success()
}

/// Client with manual control of each packet.
pub(crate) struct ManualClient {
    pub(crate) socket: UdpSocket,
    server: SocketAddr,
}

impl ManualClient {
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }, server)
    }

    pub(crate) fn bind(address: &str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a read time-out");
        Self { socket, server }
    }

    pub(crate) fn send_request(&self, options: &str) {
        let packet = format!("\0\x01dir/file\0octet\0{}", options.replace(' ', "\0"));
        self.socket.send_to(packet.as_bytes(), self.server).expect("a route to the server");
    }

    pub(crate) fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut packet = vec![0; 70_000];
        let (length, from) = self.socket.recv_from(&mut packet).expect("a response");
        packet.truncate(length);
        (packet, from)
    }

    pub(crate) fn send(&self, packet: &[u8], to: SocketAddr) {
        self.socket.send_to(packet, to).expect("a route to the server");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_reads_a_file_with_and_without_options() {
    let mut server = TestServer::listen_on("127.0.0.1:0");
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("tftp://{}/dir/file", server.address);
    for options in [&["--tftp-blksize", "1432"][..], &["--tftp-no-options"]] {
        let path = directory.path().join("content");
        let path_text = path.to_str().expect("a plain path");
        assert!(run("curl", &[&["-s", "-o", path_text], options, &[&url]].concat()).await);
        assert!(std::fs::read(&path).expect("the file") == pattern(100_000));
        assert_eq!(server.next_event().await.outcome, TransferEnd::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn atftp_reads_a_file_with_windows() {
    let mut server = TestServer::listen_on("127.0.0.1:0");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("content");
    let (port, window) = (server.address.port().to_string(), "windowsize 16");
    let arguments = ["--option", "blksize 1432", "--option", window, "-g", "-r", "dir/file", "-l"];
    let arguments = [&arguments[..], &[path.to_str().expect("a plain path"), "127.0.0.1", &port]].concat();
    assert!(run("atftp", &arguments).await);
    assert!(std::fs::read(&path).expect("the file") == pattern(100_000));
    let event = server.next_event().await;
    assert_eq!((event.options.window_size, event.outcome), (16, TransferEnd::Complete));
}

#[tokio::test(flavor = "multi_thread")]
async fn tftp_hpa_reads_a_file() {
    let mut server = TestServer::listen_on("127.0.0.1:0");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("content");
    let port = server.address.port().to_string();
    let path_text = path.to_str().expect("a plain path");
    assert!(run("tftp", &["-m", "binary", "127.0.0.1", &port, "-c", "get", "/dir/file", path_text]).await);
    assert!(std::fs::read(&path).expect("the file") == pattern(100_000));
    assert_eq!(server.next_event().await.outcome, TransferEnd::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_leave_from_the_address_of_the_request_on_ipv4_and_ipv6() {
    for (listen, address) in [("0.0.0.0:0", "127.0.0.9"), ("0.0.0.0:0", "127.1.2.3"), ("[::]:0", "::1")] {
        let server = TestServer::listen_on(listen);
        let ip = address.parse().expect("an address");
        let client = ManualClient::new(SocketAddr::new(ip, server.address.port()));
        client.send_request("windowsize 4 ");
        let (_, from) = client.receive();
        assert_eq!(from.ip(), ip);
        client.send(&[0, 4, 0, 0], from);
        for _ in 0..4 {
            assert_eq!(client.receive().1, from);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv4_and_ipv6_listen_on_one_port_side_by_side() {
    let first =
        Server::bind(&ServerConfig::new(["0.0.0.0:0".parse().expect("an address")])).expect("a free port");
    let port = first.local_addrs()[0].port();
    let second = ServerConfig::new([SocketAddr::new("::".parse().expect("an address"), port)]);
    assert!(Server::bind(&second).is_ok());
    let error = Server::bind(&ServerConfig::new(first.local_addrs())).expect_err("a port in use");
    assert_eq!(error.source.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_ends_at_once_and_its_port_may_send_the_next_request() {
    // No timer fires during this test.
    let mut server = TestServer::start(&config_without_retransmission(Ports::Ephemeral));
    let client = ManualClient::new(server.address);
    for _ in 0..300 {
        client.send_request("tsize 0 ");
        let (oack, from) = client.receive();
        assert_eq!(oack, b"\0\x06tsize\x00100000\0");
        client.send(b"\0\x05\0\x08User aborted the transfer\0", from);
        client.send_request("blksize 1468 ");
        let (oack, from) = client.receive();
        assert_eq!(oack, b"\0\x06blksize\x001468\0");
        client.send(b"\0\x05\0\x00\0", from);
        assert_eq!(server.next_event().await.outcome, TransferEnd::Probe);
        assert!(matches!(server.next_event().await.outcome, TransferEnd::Aborted { .. }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_use_a_range_of_ports_or_the_listen_port() {
    let mut config = ServerConfig::new(["127.0.0.1:0".parse().expect("an address")]);
    config.ports = Ports::Single;
    let server = TestServer::start(&config);
    let client = ManualClient::new(server.address);
    client.send_request("blksize 1000 ");
    let (_, from) = client.receive();
    assert_eq!(from, server.address);
    client.send(&[0, 4, 0, 0], from);
    assert_eq!(client.receive(), ([&[0, 3, 0, 1], &pattern(1000)[..]].concat(), server.address));

    config.ports = Ports::Range(42_100..=42_199);
    let server = TestServer::start(&config);
    let client = ManualClient::new(server.address);
    client.send_request("blksize 1000 ");
    assert!((42_100..=42_199).contains(&client.receive().1.port()));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_concurrent_clients_are_served_through_the_listen_port() {
    let config = config_without_retransmission(Ports::Single);
    let mut server = TestServer::start(&config);
    // An address of its own for each client: the first windows of all together exceed the budget of one address.
    let bind = |number| ManualClient::bind(&format!("127.0.50.{number}:0"), server.address);
    let clients: Vec<_> = (1..=50).map(bind).collect();
    for client in &clients {
        client.send_request("blksize 1468 windowsize 4 ");
        let (oack, from) = client.receive();
        assert_eq!((&oack[..2], from), (&[0, 6][..], server.address));
        client.send(&[0, 4, 0, 0], from);
    }
    let blocks = (100_000_usize / 1468 + 1) as u8;
    let mut contents = vec![Vec::new(); clients.len()];
    for block in 1..=blocks {
        for (client, content) in clients.iter().zip(&mut contents) {
            let (packet, from) = client.receive();
            assert_eq!((packet[3], from), (block, server.address));
            content.extend_from_slice(&packet[4..]);
            if block % 4 == 0 || block == blocks {
                client.send(&[0, 4, 0, block], from);
            }
        }
    }
    assert!(contents.iter().all(|content| *content == pattern(100_000)));
    for _ in &clients {
        assert_eq!(server.next_event().await.outcome, TransferEnd::Complete);
    }
    // One more transfer through the same port, by a real client.
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("content");
    let url = format!("tftp://{}/dir/file", server.address);
    assert!(run("curl", &["-s", "-o", path.to_str().expect("a plain path"), &url]).await);
    assert!(std::fs::read(&path).expect("the file") == pattern(100_000));
}

/// A client that reads window by window, for tests with several clients.
struct WindowedClient {
    client: ManualClient,
    block_size: usize,
    window: usize,
    content: Vec<u8>,
    blocks: usize,
}

impl WindowedClient {
    fn new(server: SocketAddr, block_size: usize, window: usize) -> Self {
        let client = ManualClient::new(server);
        client.send_request(&format!("blksize {block_size} windowsize {window} "));
        assert_eq!(client.receive().0[..2], [0, 6]);
        Self { client, block_size, window, content: Vec::new(), blocks: 0 }
    }

    /// Acknowledges the previous window and reads the next one; false at the end of the file.
    fn read_window(&mut self) -> bool {
        let [.., high, low] = self.blocks.to_be_bytes();
        self.client.send(&[0, 4, high, low], self.client.server);
        for _ in 0..self.window {
            self.blocks += 1;
            let [.., high, low] = self.blocks.to_be_bytes();
            // On a slow host, retransmissions may arrive, too.
            let mut packets = std::iter::repeat_with(|| self.client.receive().0);
            let packet = packets.find(|packet| packet[..4] == [0, 3, high, low]).expect("endless packets");
            self.content.extend_from_slice(&packet[4..]);
            if packet.len() < self.block_size + 4 {
                let [.., high, low] = self.blocks.to_be_bytes();
                self.client.send(&[0, 4, high, low], self.client.server);
                return false;
            }
        }
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_different_blocks_and_windows_share_one_socket() {
    let mut config = ServerConfig::new(["127.0.0.1:0".parse().expect("an address")]);
    config.ports = Ports::Single;
    let mut server = TestServer::start(&config);
    let kinds = [(512, 4), (1468, 16), (1024, 1), (1468, 3), (1000, 16)];
    let mut clients: Vec<_> =
        kinds.map(|(size, window)| WindowedClient::new(server.address, size, window)).into();
    let mut complete = 0;
    while !clients.is_empty() {
        clients.retain_mut(|client| {
            let has_more = client.read_window();
            if !has_more {
                assert!(client.content == pattern(100_000), "blocks of {}", client.block_size);
                complete += 1;
            }
            has_more
        });
    }
    assert_eq!(complete, kinds.len());
    for _ in kinds {
        assert_eq!(server.next_event().await.outcome, TransferEnd::Complete);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_server_leaves_no_thread_behind() {
    for ports in [Ports::Ephemeral, Ports::Single] {
        let mut config = ServerConfig::new(["127.0.0.1:0".parse().expect("an address")]);
        config.ports = ports;
        let server = TestServer::start(&config);
        let client = ManualClient::new(server.address);
        client.send_request("");
        let (_, from) = client.receive();
        client.send(&[0, 5, 0, 0, 0], from);
        server.task.abort();
        // Every worker owns a reference to the files.
        let end = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&server.files) > 1 && Instant::now() < end {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&server.files), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_drains_running_transfers() {
    for ports in [Ports::Ephemeral, Ports::Single] {
        let config = config_without_retransmission(ports);
        let mut server = TestServer::with_grace(&config, Duration::from_secs(20));
        let client = ManualClient::new(server.address);
        client.send_request("blksize 1468 ");
        let (_, from) = client.receive();
        *server.files.0.lock() = Bytes::from_static(b"swapped meanwhile");
        server.stop.cancel();
        let mut content = Vec::new();
        client.send(&[0, 4, 0, 0], from);
        while content.len() < 100_000 {
            let (packet, _) = client.receive();
            content.extend_from_slice(&packet[4..]);
            client.send(&[0, 4, packet[2], packet[3]], from);
        }
        assert!(content == pattern(100_000));
        assert_eq!(server.next_event().await.outcome, TransferEnd::Complete);
        server.task.await.expect("a task").expect("a clean end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_aborts_transfers_after_the_grace_period() {
    let config = config_without_retransmission(Ports::Ephemeral);
    let mut server = TestServer::with_grace(&config, Duration::from_millis(100));
    let client = ManualClient::new(server.address);
    client.send_request("blksize 1468 ");
    let (_, from) = client.receive();
    client.send(&[0, 4, 0, 0], from);
    client.receive();
    server.stop.cancel();
    while client.receive().0[..2] != [0, 5] {}
    assert_eq!(server.next_event().await.outcome, TransferEnd::Stopped);
    server.task.await.expect("a task").expect("a clean end");
}

/// Needs the right to open raw sockets; without it, the test checks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_df_bit_is_never_set_in_single_blocks_nor_in_segmented_windows() {
    let protocol = Some(socket2::Protocol::UDP);
    let Ok(wire) = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, protocol) else {
        eprintln!("cannot open a raw socket: the DF bit is not checked");
        return;
    };
    wire.set_read_timeout(Some(Duration::from_secs(20))).expect("a read time-out");
    // A separate address: the traffic of other tests would fill the socket.
    let address = "127.0.0.77:0";
    wire.bind(&address.parse::<SocketAddr>().expect("an address").into()).expect("binds");
    let server = TestServer::start(&config_without_retransmission(Ports::Ephemeral));
    for (window, blocks) in [(1, 1), (16, 16)] {
        let client = ManualClient::bind(address, server.address);
        client.send_request(&format!("blksize 1468 windowsize {window} "));
        let (_, from) = client.receive();
        client.send(&[0, 4, 0, 0], from);
        (0..blocks).for_each(|_| drop(client.receive()));
        let to = client.socket.local_addr().expect("an address").port().to_be_bytes();
        let (mut total_length, mut packet) = (0, vec![0; 70_000]);
        while total_length < blocks * 1472 {
            let length = (&wire).read(&mut packet).expect("a packet on the wire");
            let (header, udp) = packet[..length].split_at(20);
            if udp[2..4] == to && udp[8..10] == [0, 3] {
                assert_eq!(header[6] & 0x40, 0, "DF is set in a packet of {length} bytes");
                total_length += udp.len() - 8;
            }
        }
    }
}
