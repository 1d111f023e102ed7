//! What happens between the first block and the end: windows, losses, time-outs and ends, one sentence a test.

use super::*;

#[test]
fn an_error_ends_a_transfer_at_once() {
    let (mut server, client, _) = started(5000, "blksize 1000");
    assert_eq!(server.receive(client, b"\0\x05\0\x00TFTP Aborted\0"), NOTHING);
    assert!(server.table.is_empty());
    assert_eq!(server.outcomes(), [Outcome::Aborted { code: 0, message: "TFTP Aborted".into() }]);
    assert_eq!(server.pass(ms(60_000)), [], "nothing more is sent");
}

#[test]
fn the_oack_is_retransmitted_with_back_off() {
    let mut server = Server::new(pattern(5000));
    server.request(client(1), &read("blksize 1000"));
    let again: Vec<_> = server.pass(ms(8000));
    assert_eq!(again.iter().map(|(at, _)| at.as_millis()).collect::<Vec<_>>(), [1000, 3000, 7000]);
    assert!(again.iter().all(|(_, sent)| *sent == [oack("blksize 1000")]));
    assert_eq!(blocks(&server.ack(client(1), 0)), [1]);
}

#[test]
fn a_client_that_never_takes_the_oack_is_given_up() {
    let mut server = Server::new(pattern(5000));
    server.request(client(1), &read("blksize 1000"));
    server.pass(ms(20_000));
    assert!(server.table.is_empty());
    assert_eq!(server.outcomes(), [Outcome::TimedOut]);
}

#[test]
fn a_plain_duplicate_of_an_ack_in_lockstep_sends_nothing() {
    let (mut server, client, _) = started(5000, "blksize 1000");
    assert_eq!(blocks(&server.ack(client, 1)), [2]);
    for _ in 0..10 {
        server.pass(ms(5));
        assert_eq!(server.ack(client, 1), NOTHING);
        assert_eq!(server.ack(client, 0), NOTHING);
    }
    let sent = server.pass(ms(1000));
    assert_eq!(blocks(&sent[0].1), [2], "the timer sends again");
}

#[test]
fn a_lost_first_block_costs_one_round_trip_in_window_mode() {
    let (mut server, client, first) = started(50_000, "blksize 1000 windowsize 4");
    assert_eq!(first, [1, 2, 3, 4]);
    server.pass(ms(10));
    assert_eq!(blocks(&server.ack(client, 0)), [1, 2, 3, 4]);
}

#[test]
fn a_lost_block_inside_the_window_rewinds_once_per_distinct_ack() {
    let (mut server, client, _) = started(50_000, "blksize 1000 windowsize 4");
    server.pass(ms(10));
    // EDK2 lost block 2 and says so for 3 and for 4.
    assert_eq!(blocks(&server.ack(client, 1)), [2, 3, 4, 5]);
    assert_eq!(server.ack(client, 1), NOTHING);
    server.pass(ms(10));
    assert_eq!(server.ack(client, 1), NOTHING, "ignored until progress or time-out");
    assert_eq!(blocks(&server.ack(client, 5)), [6, 7, 8, 9]);
    server.pass(ms(10));
    assert_eq!(blocks(&server.ack(client, 5)), [6, 7, 8, 9], "a new value may rewind again");
}

#[test]
fn duplicates_never_multiply() {
    let (mut server, client, _) = started(1_000_000, "blksize 1000 windowsize 4");
    let mut sent = 4;
    for window in 1..200_u16 {
        server.pass(ms(10));
        // The network doubles each ACK, and the client answers each block it has already.
        for _ in 0..6 {
            sent += server.ack(client, window * 4).len();
        }
    }
    assert_eq!(sent, 200 * 4, "each block was sent once");
}

#[test]
fn an_early_ack_inside_the_window_moves_the_window() {
    let (mut server, client, _) = started(50_000, "blksize 1000 windowsize 4");
    server.pass(ms(10));
    assert_eq!(blocks(&server.ack(client, 4)), [5, 6, 7, 8]);
    server.pass(ms(2));
    // Sooner than any answer to the last burst: nothing is lost, so only what is new goes out.
    assert_eq!(blocks(&server.ack(client, 6)), [9, 10]);
    server.pass(ms(8));
    assert_eq!(blocks(&server.ack(client, 10)), [11, 12, 13, 14]);
}

#[test]
fn an_ack_for_what_was_never_sent_is_ignored() {
    let (mut server, client, _) = started(50_000, "blksize 1000 windowsize 4");
    for block in [5, 6, 100, 65535] {
        assert_eq!(server.ack(client, block), NOTHING);
    }
}

#[test]
fn a_lost_block_in_lockstep_waits_for_a_timer_that_knows_the_round_trip() {
    let (mut server, client, _) = started(50_000, "blksize 1000");
    for block in 1..20 {
        server.pass(ms(10));
        assert_eq!(blocks(&server.ack(client, block)), [block + 1]);
    }
    let again: Vec<_> = server.pass(ms(1000)).into_iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(again, [100, 300, 700], "from the shortest wait on, doubling");
}

#[test]
fn a_timeout_the_client_asked_for_is_kept() {
    let mut server = Server::new(pattern(5000));
    assert_eq!(server.request(client(1), &read("timeout 3")), [oack("timeout 3")]);
    let again: Vec<_> = server.pass(ms(7000)).into_iter().map(|(at, _)| at.as_millis()).collect();
    assert_eq!(again, [3000, 6000]);
}

#[test]
fn a_client_that_falls_silent_is_given_up_after_20_seconds() {
    let (mut server, _, _) = started(5000, "blksize 1000");
    server.pass(ms(19_900));
    assert!(!server.table.is_empty());
    let sent = server.pass(ms(100));
    assert!(server.table.is_empty());
    assert_eq!(server.outcomes(), [Outcome::TimedOut]);
    assert_eq!(sent, [], "quietly");
}

#[test]
fn no_transfer_outlives_the_total_deadline() {
    let limits = Limits { total: ms(30_000), ..Limits::default() };
    let mut server = Server::with_limits(pattern(1_000_000), limits);
    server.request(client(1), &read(""));
    for block in 1.. {
        server.pass(ms(1000));
        if server.table.is_empty() {
            assert_eq!(block, 30);
            break;
        }
        server.ack(client(1), block);
    }
    assert_eq!(server.outcomes(), [Outcome::TimedOut]);
}

#[test]
fn block_numbers_wrap_past_65535_to_0() {
    for window in [1, 4] {
        let mut server = Server::new(pattern(70_000 * 8));
        server.request(client(1), &read(&format!("blksize 8 windowsize {window}")));
        let mut sent = server.ack(client(1), 0);
        let mut received = Vec::new();
        while !sent.is_empty() {
            for datagram in &sent {
                assert_eq!(blocks(std::slice::from_ref(datagram)), [(received.len() / 8 + 1) as u16]);
                received.extend_from_slice(&datagram[4..]);
            }
            let last = blocks(&sent)[sent.len() - 1];
            sent = server.ack(client(1), last);
        }
        assert_eq!(received, pattern(70_000 * 8));
        assert_eq!(server.outcomes(), [Outcome::Complete]);
        assert_eq!(server.events()[0].blocks, 70_001);
    }
}

#[test]
fn an_exact_multiple_ends_with_an_empty_block() {
    let mut server = Server::new(pattern(1024));
    assert_eq!(server.request(client(1), &read(""))[0].len(), 516);
    assert_eq!(server.ack(client(1), 1)[0].len(), 516);
    assert_eq!(server.ack(client(1), 2), [vec![0, 3, 0, 3]]);
    assert_eq!(server.ack(client(1), 3), NOTHING);
    assert_eq!(server.outcomes(), [Outcome::Complete]);
}

#[test]
fn an_empty_file_is_one_empty_block() {
    let mut server = Server::new(Vec::new());
    assert_eq!(server.request(client(1), &read("tsize 0")), [oack("tsize 0")]);
    assert_eq!(server.ack(client(1), 0), [vec![0, 3, 0, 1]]);
}

#[test]
fn the_last_block_is_sent_again_while_its_ack_is_missing_and_ends_quietly_after_the_linger() {
    let (mut server, client, _) = started(1500, "blksize 1000");
    assert_eq!(blocks(&server.ack(client, 1)), [2]);
    let again = server.pass(ms(5000));
    assert!(again.len() > 2 && again.iter().all(|(_, sent)| blocks(sent) == [2]), "{again:?}");
    assert!(server.table.is_empty());
    assert_eq!(server.outcomes(), [Outcome::Unconfirmed]);
}

#[test]
fn a_stop_ends_what_runs_with_a_word_to_each_client() {
    let mut server = Server::new(pattern(5000));
    server.request(client(1), &read(""));
    server.request(client(2), &read(""));
    while server.table.cut(server.now, &mut server.parcel) {
        assert_eq!(error_code(&server.sent()), 0);
    }
    assert_eq!(server.outcomes(), [Outcome::Stopped, Outcome::Stopped]);
}

#[test]
fn an_event_tells_who_what_how_and_how_long() {
    let (mut server, client, _) = started(1500, "blksize 1000 windowsize 4");
    server.pass(ms(1000));
    server.ack(client, 2);
    let events = server.events();
    let [event] = events.as_slice() else { panic!("one event: {events:?}") };
    assert_eq!((event.client, event.name.as_str(), event.size), (client, "file", 1500));
    assert_eq!((event.agreed.block_size, event.agreed.window), (1000, 4));
    assert_eq!((event.blocks, event.took), (2, ms(1010)));
    assert_eq!(event.outcome, Outcome::Complete);
    assert!(event.retransmissions >= 2);
}
