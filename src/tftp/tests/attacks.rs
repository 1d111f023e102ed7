//! Attacks with forged addresses, one sentence per test. A forged request or ACK looks like one of the client itself.
//!
//! The bytes on the wire include the headers of IPv4 and UDP. The transfers have ports that cannot be guessed unless a test
//! says otherwise.

use super::*;
use crate::tftp::budget::{MAX_BYTES, PERIOD};

const HEADERS: usize = 28;

fn wire_bytes(datagrams: &[Vec<u8>]) -> usize {
    datagrams.iter().map(|datagram| datagram.len() + HEADERS).sum()
}

fn all_bytes(bursts: &[(Duration, Vec<Vec<u8>>)]) -> usize {
    bursts.iter().map(|(_, burst)| wire_bytes(burst)).sum()
}

const PORT_KINDS: [PortKind; 3] = [PortKind::Unguessable, PortKind::Guessable, PortKind::Shared];

fn server_with_ports(ports: PortKind) -> TestServer {
    let limits = TransferLimits { transfers_per_client: 4096, ..TransferLimits::default() };
    TestServer::with_ports(pattern(1 << 20), limits, ports)
}

/// Exhausts the budget of the clients' address: forged requests without options get a block each.
fn exhaust_budget(server: &mut TestServer) {
    while !server.send_request(client(60_000), &read_request("")).is_empty() {
        server.advance(ms(1));
    }
}

#[test]
fn a_forged_request_gets_less_than_85_times_its_bytes() {
    for options in ["", "timeout 1", "timeout 1 tsize 0", "blksize 1468 windowsize 16"] {
        let mut server = TestServer::new(pattern(1 << 20));
        let request = read_request(options);
        let received =
            wire_bytes(&server.send_request(client(1), &request)) + all_bytes(&server.advance(ms(60_000)));
        let factor = received / (request.len() + HEADERS);
        assert!(factor < 85, "{options}: {factor}");
        assert!(server.table.is_empty());
    }
}

#[test]
fn after_a_forged_ack_the_timer_sends_single_blocks() {
    let (mut server, client, first) = start_transfer(1 << 20, "blksize 1468 windowsize 16");
    assert_eq!(first.len(), 16, "the whole window, which clients need");
    let bursts = server.advance(ms(60_000));
    assert!(bursts.len() > 3 && bursts.iter().all(|(_, burst)| block_numbers(burst) == [1]), "{bursts:?}");
    assert!(server.table.is_empty(), "{client}");
}

#[test]
fn a_client_that_lost_its_first_window_continues_from_the_single_block() {
    let (mut server, client, _) = start_transfer(100_000, "blksize 1000 windowsize 4");
    assert_eq!(block_numbers(&server.advance(ms(1000))[0].1), [1]);
    assert_eq!(block_numbers(&server.send_ack(client, 1)), [2, 3, 4, 5]);
    server.advance(ms(10));
    assert_eq!(block_numbers(&server.send_ack(client, 5)), [6, 7, 8, 9]);
    let bursts = server.advance(ms(2000));
    assert_eq!(block_numbers(&bursts[0].1), [6, 7, 8, 9], "the timer sends windows to a proven client");
}

#[test]
fn an_ack_of_the_same_number_gets_at_most_two_windows() {
    for acked in [0, 8, 16] {
        let (mut server, client, _) = start_transfer(1 << 20, "blksize 512 windowsize 16");
        let (mut windows, mut received) = (usize::from(acked == 0), 0);
        for _ in 0..200 {
            server.advance(ms(80));
            let burst = server.send_ack(client, acked);
            windows += usize::from(burst.len() == 16);
            received += burst.len();
        }
        assert_eq!(windows, 2, "ACK {acked}: {received} blocks");
    }
}

#[test]
fn an_address_without_acknowledged_data_gets_at_most_256_kb_in_20_seconds() {
    // Without options the first block comes unasked; with options and a guessed port, the first window.
    let attacks = [
        (PortKind::Unguessable, ""),
        (PortKind::Guessable, "windowsize 16"),
        (PortKind::Shared, "windowsize 16"),
    ];
    for (ports, options) in attacks {
        let mut server = server_with_ports(ports);
        let (mut sent, mut answers) = (Vec::<(Instant, usize)>::new(), 0);
        let start = server.now;
        for number in 0..3000 {
            let client = client(number % 500);
            let request = read_request(options);
            let response = server.send_request(client, &request);
            let mut bytes = wire_bytes(&response);
            if response.first().is_some_and(|oack| oack[..2] == [0, 6]) {
                assert!(response[0].len() <= request.len(), "an OACK amplifies nothing");
                (answers, bytes) = (answers + bytes, 0);
            }
            if ports != PortKind::Unguessable {
                bytes += wire_bytes(&server.send_ack(client, 0)) + wire_bytes(&server.send_ack(client, 0));
            }
            bytes += all_bytes(&server.advance(ms(20)));
            sent.push((server.now, bytes));
        }
        assert!(server.now.duration_since(start) > PERIOD * 2);
        for (from, _) in sent.iter().step_by(100) {
            let period = sent.iter().filter(|(at, _)| at >= from && *at < *from + PERIOD);
            let total: usize = period.map(|(_, bytes)| bytes).sum();
            assert!(total <= MAX_BYTES, "{ports:?}: {total}");
        }
        assert_eq!(answers > 0, !options.is_empty());
    }
}

#[test]
fn a_request_with_options_gets_an_oack_that_is_not_longer() {
    let options = ["tsize 0", "timeout 1", "blksize 65464", "windowsize 64", "tsize 0 timeout 1 blksize 8"];
    for options in options {
        let mut server = TestServer::new(pattern(10 << 20));
        let request = read_request(options);
        let response = server.send_request(client(1), &request);
        // The shortest name has three characters fewer.
        assert!(response[0][..2] == [0, 6] && response[0].len() <= request.len() - 3, "{options}");
    }
}

#[test]
fn the_oacks_of_the_timer_come_from_the_budget() {
    let mut server = server_with_ports(PortKind::Unguessable);
    exhaust_budget(&mut server);
    let request = read_request("timeout 1 blksize 1000");
    for number in 0..10 {
        assert_eq!(server.send_request(client(number), &request).len(), 1);
    }
    let unasked = all_bytes(&server.advance(ms(5000)));
    assert!(unasked < 512 + HEADERS, "the rest of the budget: {unasked}");
    assert_eq!(server.send_request(client(1), &request).len(), 1, "the client asks again");
}

#[test]
fn forged_requests_do_not_lock_out_a_client_with_options() {
    let mut server = server_with_ports(PortKind::Unguessable);
    for number in 0..100 {
        exhaust_budget(&mut server);
        assert_eq!(server.send_request(client(number), &read_request("blksize 1468 windowsize 16")).len(), 1);
        server.advance(ms(2));
        assert_eq!(server.send_ack(client(number), 0).len(), 16, "machine {number}");
        server.advance(ms(2));
        assert_eq!(server.send_ack(client(number), 16).len(), 16);
    }
}

#[test]
fn forged_requests_lock_out_a_client_without_options_as_long_as_they_last() {
    let mut server = server_with_ports(PortKind::Unguessable);
    for _ in 0..400 {
        exhaust_budget(&mut server);
        assert_eq!(server.send_request(client(1), &read_request("")), NO_PACKETS);
        server.advance(ms(200));
    }
    server.advance(PERIOD + ms(5000));
    assert_eq!(block_numbers(&server.send_request(client(1), &read_request(""))), [1]);
    assert_eq!(block_numbers(&server.send_ack(client(1), 1)), [2]);
}

#[test]
fn on_a_guessable_or_shared_port_forged_requests_leave_a_client_the_first_window_at_most() {
    for ports in [PortKind::Guessable, PortKind::Shared] {
        let mut server = server_with_ports(ports);
        exhaust_budget(&mut server);
        assert_eq!(server.send_request(client(1), &read_request("windowsize 16")).len(), 1);
        assert_eq!(server.send_ack(client(1), 0), NO_PACKETS);
        server.advance(PERIOD + ms(5000));
        server.send_request(client(1), &read_request("windowsize 16"));
        assert_eq!(server.send_ack(client(1), 0).len(), 16);
    }
}

#[test]
fn a_client_that_only_acknowledges_the_oack_gets_at_most_256_kb() {
    let limits = TransferLimits { block_size: 65464, ..TransferLimits::default() };
    let mut server = TestServer::with_limits(pattern(1 << 20), limits);
    server.send_request(client(1), &read_request("blksize 65464 windowsize 16 timeout 1"));
    let mut received = 0;
    for _ in 0..25 {
        received += wire_bytes(&server.send_ack(client(1), 0)) + all_bytes(&server.advance(ms(1000)));
    }
    assert!(received > MAX_BYTES / 2 && received <= MAX_BYTES, "{received}");
    assert!(server.table.is_empty());
}

#[test]
fn machines_behind_one_address_return_their_bytes_to_the_budget() {
    for ports in PORT_KINDS {
        let mut server = server_with_ports(ports);
        for number in 0..1000 {
            let options = if number % 2 == 0 { "blksize 1468 windowsize 16" } else { "" };
            let mut window = server.send_request(client(number), &read_request(options));
            if number % 2 == 0 {
                window = server.send_ack(client(number), 0);
            }
            server.advance(ms(2));
            let window = block_numbers(&window);
            assert_eq!(window.len(), if number % 2 == 0 { 16 } else { 1 }, "{ports:?}, machine {number}");
            assert_eq!(server.send_ack(client(number), window.len() as u16).len(), window.len());
        }
    }
}

#[test]
fn size_probes_take_nothing_from_the_budget() {
    for ports in PORT_KINDS {
        let mut server = TestServer::with_ports(pattern(5000), TransferLimits::default(), ports);
        for _ in 0..10_000 {
            assert_eq!(server.send_request(client(1), &read_request("tsize 0")).len(), 1);
            server.send_packet(client(1), b"\0\x05\0\0\0");
        }
        assert!(server.events().iter().all(|event| event.is_answered && event.outcome == TransferEnd::Probe));
    }
}

#[test]
fn aborts_return_their_bytes_unless_the_port_may_be_guessed() {
    for ports in PORT_KINDS {
        let mut server = TestServer::with_ports(pattern(5000), TransferLimits::default(), ports);
        let mut responses = 0;
        for _ in 0..10_000 {
            responses += server.send_request(client(1), &read_request("")).len();
            server.send_packet(client(1), b"\0\x05\0\0\0");
        }
        assert_eq!(responses == 10_000, ports == PortKind::Unguessable, "{responses}");
    }
}

#[test]
fn without_budget_for_a_window_the_first_block_comes_alone() {
    let mut server = server_with_ports(PortKind::Shared);
    let bursts: Vec<_> = (0..12)
        .map(|number| {
            server.send_request(client(number), &read_request("blksize 1468 windowsize 16"));
            server.send_ack(client(number), 0).len()
        })
        .collect();
    assert_eq!(bursts[..10], [16; 10]);
    assert_eq!(bursts[11], 1);
    assert_eq!(server.send_ack(client(11), 1).len(), 16, "the client is proven");
}

#[test]
fn an_icmp_error_ends_a_transfer() {
    let mut server = TestServer::new(pattern(5000));
    server.send_request(client(1), &read_request("blksize 1000"));
    server.send_unreachable(client(1));
    let (mut probed, mut booted) =
        (TestServer::new(pattern(5000)), start_transfer(1500, "blksize 1000 windowsize 4"));
    probed.send_request(client(1), &read_request("tsize 0"));
    probed.send_unreachable(client(1));
    booted.0.send_unreachable(booted.1);
    let message = "ICMP: destination unreachable".into();
    assert_eq!(server.outcomes(), [TransferEnd::Aborted { code: 0, message }]);
    assert_eq!(probed.outcomes(), [TransferEnd::Probe]);
    assert_eq!(
        booted.0.outcomes(),
        [TransferEnd::Unconfirmed],
        "the client may have booted without the last ACK"
    );
    assert!(server.table.is_empty() && probed.table.is_empty() && booted.0.table.is_empty());
}

/// Starts a transfer and acknowledges its first block.
fn start_moving_transfer(ports: PortKind) -> TestServer {
    let mut server = TestServer::with_ports(pattern(5000), TransferLimits::default(), ports);
    server.send_request(client(1), &read_request(""));
    assert_eq!(block_numbers(&server.send_ack(client(1), 1)), [2]);
    server.advance(ms(10));
    server
}

#[test]
fn a_rejected_request_touches_no_moving_transfer_and_is_answered_from_another_port() {
    for ports in PORT_KINDS {
        let mut server = start_moving_transfer(ports);
        let requests =
            [&b"\0\x01other\0octet\0"[..], b"\0\x02file\0octet\0", b"\0\x01file", b"\0\x01../a\0octet\0"];
        for (request, code) in requests.into_iter().zip([1, 2, 4, 1]) {
            assert_eq!(error_code(&server.send_request(client(1), request)), code);
            let is_shared = ports == PortKind::Shared;
            let expected = if is_shared { ResponsePort::Other } else { ResponsePort::Request };
            assert_eq!(server.response_port, Some(expected));
        }
        assert_eq!(block_numbers(&server.send_ack(client(1), 2)), [3], "the transfer continues");
    }
}

#[test]
fn a_different_request_is_believed_only_after_a_pause_of_a_moving_transfer() {
    let mut server = start_moving_transfer(PortKind::Unguessable);
    assert_eq!(server.send_request(client(1), &read_request("blksize 1000")), NO_PACKETS);
    assert_eq!(block_numbers(&server.send_ack(client(1), 2)), [3], "the transfer continues");
    server.advance(ms(1000));
    assert_eq!(server.send_request(client(1), &read_request("blksize 1000")), [oack_packet("blksize 1000")]);
    assert_eq!(server.outcomes(), [TransferEnd::Replaced]);
}

#[test]
fn on_a_guessable_port_an_error_or_icmp_error_ends_a_moving_transfer_only_after_silence() {
    let send_error = |server: &mut TestServer| drop(server.send_packet(client(1), b"\0\x05\0\0no\0"));
    let send_unreachable = |server: &mut TestServer| server.send_unreachable(client(1));
    let ports = [PortKind::Guessable, PortKind::Shared];
    let attacks =
        [send_error, send_unreachable].into_iter().flat_map(|attack| ports.map(|ports| (attack, ports)));
    for (attack, ports) in attacks {
        let mut server = start_moving_transfer(ports);
        attack(&mut server);
        server.advance(ms(500));
        assert_eq!(block_numbers(&server.send_ack(client(1), 2)), [3], "the client continues");
        server.advance(ms(1500));
        assert_eq!(block_numbers(&server.send_ack(client(1), 3)), [4]);
        server.advance(ms(10));
        attack(&mut server);
        server.advance(ms(1000));
        assert!(matches!(server.outcomes()[..], [TransferEnd::Aborted { .. }]), "{:?}", server.outcomes());
    }
}

#[test]
fn when_full_the_oldest_unanswered_transfer_gives_way() {
    let limits = TransferLimits { transfers: 8, ..TransferLimits::default() };
    let mut server = TestServer::with_limits(pattern(5000), limits);
    let forged = |number: u16| SocketAddr::from(([198, 51, (number >> 8) as u8, number as u8], 7));
    let mut genuine = 0;
    for number in 0..400 {
        server.send_request(forged(number), &read_request(""));
        // A machine among a hundred forged requests, with a round trip of four of them.
        if number % 100 == 50 {
            server.send_request(client(number), &read_request(""));
        }
        if number % 100 == 54 {
            genuine += server.send_ack(client(number - 4), 1).len();
        }
    }
    assert_eq!(genuine, 4, "every machine is served");
    let outcomes = server.outcomes();
    assert!(outcomes.len() > 380 && outcomes.iter().all(|outcome| *outcome == TransferEnd::Busy));
    assert!(server.events().iter().all(|event| !event.is_answered));
}

#[test]
fn clients_of_other_networks_get_an_error() {
    let mut server = TestServer::new(pattern(100));
    server.files.1.store(false, Ordering::Relaxed);
    assert_eq!(error_code(&server.send_request(client(1), &read_request(""))), 2);
    assert_eq!(server.outcomes(), [TransferEnd::NotAllowed]);
    assert_eq!(server.files.0.lock().1, 0, "no read");
}
