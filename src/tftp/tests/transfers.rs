//! Transfers: windows, losses, time-outs and outcomes, one sentence per test.

use super::*;

#[test]
fn an_error_ends_a_transfer_at_once() {
    let (mut server, client, _) = start_transfer(5000, "blksize 1000");
    assert_eq!(server.send_packet(client, b"\0\x05\0\x00TFTP Aborted\0"), NO_PACKETS);
    assert!(server.table.is_empty());
    assert_eq!(server.outcomes(), [TransferEnd::Aborted { code: 0, message: "TFTP Aborted".into() }]);
    assert_eq!(server.advance(ms(60_000)), [], "no further packets");
}

#[test]
fn the_oack_is_retransmitted_with_back_off() {
    let mut server = TestServer::new(pattern(5000));
    server.send_request(client(1), &read_request("blksize 1000"));
    let bursts: Vec<_> = server.advance(ms(8000));
    assert_eq!(bursts.iter().map(|(at, _)| at.as_millis()).collect::<Vec<_>>(), [1000, 3000, 7000]);
    assert!(bursts.iter().all(|(_, burst)| *burst == [oack_packet("blksize 1000")]));
    assert_eq!(block_numbers(&server.send_ack(client(1), 0)), [1]);
}

#[test]
fn a_client_that_never_acknowledges_the_oack_times_out() {
    let mut server = TestServer::new(pattern(5000));
    server.send_request(client(1), &read_request("blksize 1000"));
    server.advance(ms(20_000));
    assert!(server.table.is_empty());
    assert_eq!(server.outcomes(), [TransferEnd::TimedOut]);
}

#[test]
fn a_duplicate_ack_in_lockstep_sends_nothing() {
    let (mut server, client, _) = start_transfer(5000, "blksize 1000");
    assert_eq!(block_numbers(&server.send_ack(client, 1)), [2]);
    for _ in 0..10 {
        server.advance(ms(5));
        assert_eq!(server.send_ack(client, 1), NO_PACKETS);
        assert_eq!(server.send_ack(client, 0), NO_PACKETS);
    }
    let bursts = server.advance(ms(1000));
    assert_eq!(block_numbers(&bursts[0].1), [2], "the timer retransmits");
}

#[test]
fn with_windows_a_lost_first_block_costs_one_round_trip() {
    let (mut server, client, first) = start_transfer(50_000, "blksize 1000 windowsize 4");
    assert_eq!(first, [1, 2, 3, 4]);
    server.advance(ms(10));
    assert_eq!(block_numbers(&server.send_ack(client, 0)), [1, 2, 3, 4]);
}

#[test]
fn a_lost_block_inside_the_window_rewinds_once_per_distinct_ack() {
    let (mut server, client, _) = start_transfer(50_000, "blksize 1000 windowsize 4");
    server.advance(ms(10));
    // EDK2 lost block 2 and repeats the ACK for 3 and for 4.
    assert_eq!(block_numbers(&server.send_ack(client, 1)), [2, 3, 4, 5]);
    assert_eq!(server.send_ack(client, 1), NO_PACKETS);
    server.advance(ms(10));
    assert_eq!(server.send_ack(client, 1), NO_PACKETS, "ignored until progress or time-out");
    assert_eq!(block_numbers(&server.send_ack(client, 5)), [6, 7, 8, 9]);
    server.advance(ms(10));
    assert_eq!(block_numbers(&server.send_ack(client, 5)), [6, 7, 8, 9], "a new value may rewind again");
}

#[test]
fn duplicates_never_multiply() {
    let (mut server, client, _) = start_transfer(1_000_000, "blksize 1000 windowsize 4");
    let mut datagram_count = 4;
    for window in 1..200_u16 {
        server.advance(ms(10));
        // The network duplicates each ACK, and the client acknowledges each duplicate block again.
        for _ in 0..6 {
            datagram_count += server.send_ack(client, window * 4).len();
        }
    }
    assert_eq!(datagram_count, 200 * 4, "each block is sent once");
}

#[test]
fn an_early_ack_inside_the_window_moves_the_window() {
    let (mut server, client, _) = start_transfer(50_000, "blksize 1000 windowsize 4");
    server.advance(ms(10));
    assert_eq!(block_numbers(&server.send_ack(client, 4)), [5, 6, 7, 8]);
    server.advance(ms(2));
    // Sooner than any response to the last burst: no block is lost, so the server sends only new blocks.
    assert_eq!(block_numbers(&server.send_ack(client, 6)), [9, 10]);
    server.advance(ms(8));
    assert_eq!(block_numbers(&server.send_ack(client, 10)), [11, 12, 13, 14]);
}

#[test]
fn an_ack_of_an_unsent_block_is_ignored() {
    let (mut server, client, _) = start_transfer(50_000, "blksize 1000 windowsize 4");
    for block in [5, 6, 100, 65535] {
        assert_eq!(server.send_ack(client, block), NO_PACKETS);
    }
}

#[test]
fn in_lockstep_a_lost_block_waits_for_the_measured_rto() {
    let (mut server, client, _) = start_transfer(50_000, "blksize 1000");
    for block in 1..20 {
        server.advance(ms(10));
        assert_eq!(block_numbers(&server.send_ack(client, block)), [block + 1]);
    }
    let bursts: Vec<_> = server.advance(ms(1000)).into_iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(bursts, [100, 300, 700], "from the lower bound, doubling");
}

#[test]
fn a_negotiated_timeout_replaces_the_rto() {
    let mut server = TestServer::new(pattern(5000));
    assert_eq!(server.send_request(client(1), &read_request("timeout 3")), [oack_packet("timeout 3")]);
    let bursts: Vec<_> = server.advance(ms(7000)).into_iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(bursts, [3000, 6000]);
}

#[test]
fn a_silent_client_times_out_after_20_seconds() {
    let (mut server, _, _) = start_transfer(5000, "blksize 1000");
    server.advance(ms(19_900));
    assert!(!server.table.is_empty());
    let bursts = server.advance(ms(100));
    assert!(server.table.is_empty());
    assert_eq!(server.outcomes(), [TransferEnd::TimedOut]);
    assert_eq!(bursts, [], "no packet at the time-out");
}

#[test]
fn no_transfer_exceeds_the_maximum_duration() {
    let limits = TransferLimits { max_duration: ms(30_000), ..TransferLimits::default() };
    let mut server = TestServer::with_limits(pattern(1_000_000), limits);
    server.send_request(client(1), &read_request(""));
    for block in 1.. {
        server.advance(ms(1000));
        if server.table.is_empty() {
            assert_eq!(block, 30);
            break;
        }
        server.send_ack(client(1), block);
    }
    assert_eq!(server.outcomes(), [TransferEnd::TimedOut]);
}

#[test]
fn block_numbers_wrap_past_65535_to_0() {
    for window in [1, 4] {
        let mut server = TestServer::new(pattern(70_000 * 8));
        server.send_request(client(1), &read_request(&format!("blksize 8 windowsize {window}")));
        let mut burst = server.send_ack(client(1), 0);
        let mut received = Vec::new();
        while !burst.is_empty() {
            for datagram in &burst {
                assert_eq!(block_numbers(std::slice::from_ref(datagram)), [(received.len() / 8 + 1) as u16]);
                received.extend_from_slice(&datagram[4..]);
            }
            let last = block_numbers(&burst)[burst.len() - 1];
            burst = server.send_ack(client(1), last);
        }
        assert_eq!(received, pattern(70_000 * 8));
        assert_eq!(server.outcomes(), [TransferEnd::Complete]);
        assert_eq!(server.events()[0].blocks, 70_001);
    }
}

#[test]
fn an_exact_multiple_ends_with_an_empty_block() {
    let mut server = TestServer::new(pattern(1024));
    assert_eq!(server.send_request(client(1), &read_request(""))[0].len(), 516);
    assert_eq!(server.send_ack(client(1), 1)[0].len(), 516);
    assert_eq!(server.send_ack(client(1), 2), [vec![0, 3, 0, 3]]);
    assert_eq!(server.send_ack(client(1), 3), NO_PACKETS);
    assert_eq!(server.outcomes(), [TransferEnd::Complete]);
}

#[test]
fn an_empty_file_is_one_empty_block() {
    let mut server = TestServer::new(Vec::new());
    assert_eq!(server.send_request(client(1), &read_request("tsize 0")), [oack_packet("tsize 0")]);
    assert_eq!(server.send_ack(client(1), 0), [vec![0, 3, 0, 1]]);
}

#[test]
fn the_last_block_is_retransmitted_until_the_linger_timeout() {
    let (mut server, client, _) = start_transfer(1500, "blksize 1000");
    assert_eq!(block_numbers(&server.send_ack(client, 1)), [2]);
    let bursts = server.advance(ms(5000));
    assert!(bursts.len() > 2 && bursts.iter().all(|(_, burst)| block_numbers(burst) == [2]), "{bursts:?}");
    assert!(server.table.is_empty());
    assert_eq!(server.outcomes(), [TransferEnd::Unconfirmed]);
}

#[test]
fn a_shutdown_aborts_each_transfer_with_an_error() {
    let mut server = TestServer::new(pattern(5000));
    server.send_request(client(1), &read_request(""));
    server.send_request(client(2), &read_request(""));
    let mut aborts = Vec::new();
    server.table.abort_all(server.now, &mut server.transmit, |(), transmit| {
        aborts.extend(transmit.datagrams().map(<[u8]>::to_vec));
    });
    assert!(aborts.len() == 2 && aborts.iter().all(|abort| error_code(std::slice::from_ref(abort)) == 0));
    assert_eq!(server.outcomes(), [TransferEnd::Stopped, TransferEnd::Stopped]);
}

#[test]
fn an_event_holds_the_client_the_options_and_the_duration() {
    let (mut server, client, _) = start_transfer(1500, "blksize 1000 windowsize 4");
    server.advance(ms(1000));
    server.send_ack(client, 2);
    let events = server.events();
    let [event] = events.as_slice() else { panic!("not a single event: {events:?}") };
    assert_eq!((event.client, event.name.as_str(), event.size), (client, "file", 1500));
    assert_eq!((event.options.block_size, event.options.window_size), (1000, 4));
    assert_eq!((event.blocks, event.duration), (2, ms(1010)));
    assert_eq!(event.outcome, TransferEnd::Complete);
    assert!(event.retransmissions >= 2);
}
