//! Attacks on the TFTP server over real sockets. All packets stay on the loopback interface, whose addresses 127.0.0.0/8
//! stand for forged sources.

use std::collections::{HashSet, VecDeque};
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use volboot::tftp::{Ports, ServerConfig, TransferEnd};

use crate::tftp::{ManualClient, TestServer, config_without_retransmission, pattern};

/// Default limits, but time-outs of a hundredth: the retransmissions of 20 s arrive within 200 ms.
fn config_with_fast_timers(ports: Ports) -> ServerConfig {
    let mut config = ServerConfig::new(["127.0.0.1:0".parse().expect("an address")]);
    config.ports = ports;
    let limits = &mut config.limits;
    for timeout in
        [&mut limits.initial_rto, &mut limits.min_rto, &mut limits.max_rto, &mut limits.stall_timeout]
    {
        *timeout /= 100;
    }
    config
}

fn victim(number: u8, server: SocketAddr) -> ManualClient {
    ManualClient::bind(&format!("127.0.66.{number}:0"), server)
}

/// Bytes that a victim receives until the server's transfer has ended, with headers of IP and UDP.
async fn received_bytes(victim: &ManualClient, server: &mut TestServer) -> usize {
    server.next_event().await;
    victim.socket.set_nonblocking(true).expect("is set");
    let mut packet = [0; 2048];
    let lengths = std::iter::from_fn(|| victim.socket.recv(&mut packet).ok());
    lengths.map(|length| length + 28).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_acks_without_the_random_port_amplify_nothing() {
    let mut server = TestServer::start(&config_with_fast_timers(Ports::Ephemeral));
    // One honest request shows a port, which tells nothing about the next transfers.
    let honest = ManualClient::new(server.address);
    honest.send_request("blksize 1468 windowsize 16 ");
    let (_, known) = honest.receive();
    honest.send(b"\0\x05\0\0end\0", known);
    server.next_event().await;
    for (number, options) in (1..).zip(["", "tsize 0 ", "blksize 1468 windowsize 16 "]) {
        let victim = victim(number, server.address);
        victim.send_request(options);
        let mut sent = b"\0\x01dir/file\0octet\0".len() + options.len() + 28;
        for block in [0, 0, 1, 16, 32, 48] {
            for to in [server.address, known] {
                victim.send(&[0, 4, 0, block], to);
                sent += 4 + 28;
            }
        }
        let received = received_bytes(&victim, &mut server).await;
        assert!(received > 0 && received < sent * 8, "{options}: {received} bytes for {sent}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transfer_has_a_port_of_its_own_at_random() {
    let server = TestServer::start(&config_without_retransmission(Ports::Ephemeral));
    let mut ports = Vec::new();
    let clients: Vec<_> = (0..12).map(|_| ManualClient::new(server.address)).collect();
    for client in &clients {
        client.send_request("tsize 0 ");
        ports.push(client.receive().1.port());
    }
    let distances: HashSet<_> = ports.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert!(distances.len() > 6 && !ports.contains(&server.address.port()), "{ports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_two_ports_serves_many_transfers() {
    let mut config = config_without_retransmission(Ports::Range(42_300..=42_301));
    config.limits.transfers_per_client = 100;
    let server = TestServer::start(&config);
    let clients: Vec<_> = (0..20).map(|_| ManualClient::new(server.address)).collect();
    let ports = clients.iter().map(|client| {
        client.send_request("blksize 1000 ");
        client.receive().1
    });
    let ports: Vec<_> = ports.collect();
    assert_eq!(ports.iter().map(SocketAddr::port).collect::<HashSet<_>>(), [42_300, 42_301].into());
    for (client, port) in clients.iter().zip(ports) {
        client.send(&[0, 4, 0, 0], port);
        assert_eq!(client.receive(), ([&[0, 3, 0, 1], &pattern(1000)[..]].concat(), port));
    }
}

/// Starts a transfer, reads its first block, and returns its port.
fn start_transfer(client: &ManualClient) -> SocketAddr {
    client.send_request("blksize 1000 ");
    let (_, port) = client.receive();
    client.send(&[0, 4, 0, 0], port);
    client.receive();
    client.send(&[0, 4, 0, 1], port);
    assert_eq!(client.receive().0[..4], [0, 3, 0, 2]);
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_blind_errors_end_no_transfer() {
    let server = TestServer::start(&config_without_retransmission(Ports::Ephemeral));
    let (client, stranger) = (ManualClient::new(server.address), victim(10, server.address));
    let port = start_transfer(&client);
    for _ in 0..100 {
        stranger.send(b"\0\x05\0\0end\0", port);
        stranger.send(&[0, 4, 0, 2], port);
        // From the client's own address, but to the port that everybody knows.
        client.send(b"\0\x05\0\0end\0", server.address);
    }
    client.send(&[0, 4, 0, 2], port);
    let (packet, from) = client.receive();
    assert_eq!((&packet[..4], from), (&[0, 3, 0, 3][..], port));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_a_stranger_end_no_transfer_that_begins() {
    const PORT: u16 = 42_320;
    const TRANSFERS: usize = 1000;
    let server = TestServer::start(&config_without_retransmission(Ports::Range(PORT..=PORT)));
    let is_over = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = [21, 22]
        .map(|number| {
            let (stranger, is_over) = (victim(number, server.address), Arc::clone(&is_over));
            let target = SocketAddr::new(server.address.ip(), PORT);
            tokio::task::spawn_blocking(move || {
                let mut sent = 0_u64;
                while !is_over.load(Ordering::Relaxed) {
                    stranger.send(b"\0\x05\0\0end\0", target);
                    sent += 1;
                }
                sent
            })
        })
        .into();
    let read = || {
        let client = ManualClient::new(server.address);
        client.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("is set");
        read_file(&client).is_some()
    };
    let complete = tokio::task::block_in_place(|| (0..TRANSFERS).take_while(|_| read()).count());
    is_over.store(true, Ordering::Relaxed);
    for flood in floods {
        assert!(flood.await.expect("a thread") > 1000, "a flood");
    }
    assert_eq!(complete, TRANSFERS);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_requests_do_not_lock_out_the_owner_of_the_address() {
    // A range of 4096 ports cannot be guessed either.
    for ports in [Ports::Ephemeral, Ports::Range(43_000..=47_095)] {
        let server = TestServer::start(&config_without_retransmission(ports));
        let (forger, client) = (victim(23, server.address), victim(23, server.address));
        client.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("is set");
        for _ in 0..20 {
            // Each of them brings the address a block of 544 bytes, up to the budget.
            for _ in 0..600 {
                forger.send_request("");
            }
            assert!(tokio::task::block_in_place(|| read_file(&client)).is_some());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_request_with_the_clients_port_is_answered_from_another_port() {
    for ports in [Ports::Ephemeral, Ports::Single] {
        let mut server = TestServer::start(&config_without_retransmission(ports));
        let client = ManualClient::new(server.address);
        let port = start_transfer(&client);
        client.send(b"\0\x01missing\0octet\0", server.address);
        let (packet, from) = client.receive();
        assert!(
            packet[..4] == [0, 5, 0, 1] && from.ip() == port.ip() && from.port() != port.port(),
            "{from}"
        );
        assert_eq!(server.next_event().await.outcome, TransferEnd::NotFound);
        // A different request is not believed while blocks are acknowledged.
        client.send_request("blksize 512 ");
        client.send(&[0, 4, 0, 2], port);
        let (packet, from) = client.receive();
        assert_eq!((&packet[..4], from), (&[0, 3, 0, 3][..], port));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_client_ends_its_transfer() {
    for ports in [Ports::Ephemeral, Ports::Range(42_310..=42_319), Ports::Single] {
        let mut server = TestServer::start(&config_with_fast_timers(ports.clone()));
        let client = ManualClient::new(server.address);
        client.send_request("blksize 1000 ");
        client.receive();
        // The kernel of the client reports the closed port when the OACK comes again.
        drop(client);
        let outcome = server.next_event().await.outcome;
        assert!(matches!(outcome, TransferEnd::Aborted { code: 0, .. }), "{ports:?}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_icmp_error_for_one_client_does_not_disturb_others_on_the_listen_port() {
    let mut server = TestServer::start(&config_with_fast_timers(Ports::Single));
    let mut blocks = Vec::new();
    let client = ManualClient::new(server.address);
    client.send_request("blksize 1000 ");
    client.receive();
    for block in 0..20 {
        ManualClient::new(server.address).send_request("blksize 1000 ");
        client.send(&[0, 4, 0, block], server.address);
        // On a slow host, retransmissions may arrive, too.
        let next =
            std::iter::repeat_with(|| client.receive().0).find(|packet| packet[..4] == [0, 3, 0, block + 1]);
        blocks.extend(next);
    }
    assert_eq!(blocks.len(), 20);
    // On a slow host, the transfer without an error may end first.
    let mut outcomes = Vec::new();
    while outcomes.iter().filter(|outcome| matches!(outcome, TransferEnd::Aborted { .. })).count() < 20 {
        assert!(outcomes.len() < 21, "{outcomes:?}");
        outcomes.push(server.next_event().await.outcome);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_icmp_error_that_a_send_to_another_client_reports_ends_its_transfer() {
    let mut server = TestServer::start(&config_with_fast_timers(Ports::Single));
    for _ in 0..10 {
        // Their timers fire together: the send to the second client reports the error of the first.
        let clients = [(); 2].map(|()| ManualClient::new(server.address));
        clients.iter().for_each(|client| client.send_request("blksize 1000 "));
        clients.iter().for_each(|client| drop(client.receive()));
        let [closed, open] = clients;
        let closed_address = closed.socket.local_addr().expect("an address");
        drop(closed);
        for _ in 0..2 {
            let event = server.next_event().await;
            if event.client == closed_address {
                assert!(matches!(event.outcome, TransferEnd::Aborted { .. }), "{:?}", event.outcome);
            }
        }
        drop(open);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn genuine_transfers_succeed_beside_half_open_ones() {
    const FORGED: u16 = 4000;
    let mut config = ServerConfig::new(["127.0.0.1:0".parse().expect("an address")]);
    config.limits.transfers = 256;
    let server = TestServer::start(&config);
    let address = server.address;
    let flood = tokio::task::spawn_blocking(move || {
        let sockets: Vec<_> = (0..FORGED / 4)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                UdpSocket::bind(SocketAddr::from(([127, 77, high, low], 0))).expect("a socket")
            })
            .collect();
        for _ in 0..4 {
            for socket in &sockets {
                socket.send_to(b"\0\x01dir/file\0octet\0tsize\x000\0", address).expect("a route");
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    let (mut genuine, mut complete) = (0, 0);
    while !flood.is_finished() {
        let client = ManualClient::new(address);
        client.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("is set");
        genuine += 1;
        complete += u32::from(tokio::task::block_in_place(|| read_file(&client).is_some()));
    }
    flood.await.expect("a thread");
    assert!(genuine >= 5 && complete * 100 >= genuine * 95, "{complete} of {genuine}");
}

/// Reads the whole file with large windows; repeats a lost request once.
fn read_file(client: &ManualClient) -> Option<()> {
    let mut packet = [0; 2048];
    let mut receive =
        || client.socket.recv_from(&mut packet).map(|(length, from)| (packet[..length].to_vec(), from));
    client.send_request("blksize 1468 windowsize 16 ");
    let mut response = receive();
    if response.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
        client.send_request("blksize 1468 windowsize 16 ");
        response = receive();
    }
    let (oack, port) = response.ok()?;
    assert_eq!(oack[..2], [0, 6]);
    let (mut acked, mut received) = (0_u8, 0);
    while received < 100_000 {
        client.send(&[0, 4, 0, acked], port);
        let last = (acked + 16).min(69);
        while acked < last {
            let (block, _) = receive().ok()?;
            if block[3] == acked + 1 {
                acked += 1;
                received += block.len() - 4;
            }
        }
    }
    client.send(&[0, 4, 0, acked], port);
    Some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_limit_a_request_gets_silence() {
    let mut config = config_without_retransmission(Ports::Ephemeral);
    config.limits.transfers = 1;
    let mut server = TestServer::start(&config);
    let client = ManualClient::new(server.address);
    let port = start_transfer(&client);
    let other = victim(20, server.address);
    other.send_request("");
    assert_eq!(server.next_event().await.outcome, TransferEnd::Busy);
    other.socket.set_nonblocking(true).expect("is set");
    assert!(other.socket.recv(&mut [0; 16]).is_err(), "no ERROR");
    client.send(&[0, 4, 0, 2], port);
    assert_eq!(client.receive().0[..4], [0, 3, 0, 3]);
}

/// The long form: 2000 forged requests a second, with the default limits. It holds a socket per forged source open, so that
/// no ICMP error ends a transfer early.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes 40 seconds and needs 15 000 file descriptors"]
async fn two_thousand_forged_requests_a_second() {
    let mut config = ServerConfig::new(["127.0.0.1:0".parse().expect("an address")]);
    config.limits.transfers = 4096;
    let server = TestServer::start(&config);
    let (address, start) = (server.address, Instant::now());
    let flood = std::thread::spawn(move || {
        let mut sources = VecDeque::new();
        for sent in 0..80_000_u32 {
            let [_, high, middle, low] = sent.to_be_bytes();
            let source =
                UdpSocket::bind(SocketAddr::from(([127, high | 64, middle, low], 0))).expect("a socket");
            source.send_to(b"\0\x01dir/file\0octet\0tsize\x000\0", address).expect("a route");
            sources.push_back(source);
            if sources.len() > 8000 {
                sources.pop_front();
            }
            let next = start + Duration::from_micros(500) * sent;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
    let (mut genuine, mut complete) = (0, 0);
    while !flood.is_finished() {
        let client = ManualClient::new(address);
        client.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("is set");
        genuine += 1;
        complete += u32::from(tokio::task::block_in_place(|| read_file(&client).is_some()));
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    flood.join().expect("a thread");
    println!("{complete} of {genuine} transfers complete, in {:?}", start.elapsed());
    assert!(complete * 100 >= genuine * 95);
}
