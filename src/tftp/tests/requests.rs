//! Who is answered, and with what: requests, options, names, ports and places, one sentence a test.

use super::*;

#[test]
fn an_error_after_an_oack_with_the_size_is_a_probe() {
    for code in [8, 0] {
        let mut server = Server::new(pattern(5000));
        let answer = server.request(client(1), &read("tsize 0 blksize 1468 windowsize 4"));
        assert_eq!(answer, [oack("tsize 5000 blksize 1468 windowsize 4")]);
        server.receive(client(1), &[0, 5, 0, code, b'x', 0]);
        assert!(server.table.is_empty());
        assert_eq!(server.outcomes(), [Outcome::Probe]);
    }
}

#[test]
fn a_refusal_of_options_without_the_size_is_no_probe() {
    let mut server = Server::new(pattern(5000));
    server.request(client(1), &read("blksize 1468"));
    server.receive(client(1), b"\0\x05\0\x08no\0");
    assert_eq!(server.outcomes(), [Outcome::Aborted { code: 8, message: "no".into() }]);
}

#[test]
fn a_request_without_options_is_answered_with_block_1() {
    let mut server = Server::new(pattern(1000));
    let answer = server.request(client(1), &read(""));
    assert_eq!((blocks(&answer), answer[0].len()), (vec![1], 4 + 512));
}

#[test]
fn an_oack_longer_than_a_block_is_one_packet() {
    let mut server = Server::new(pattern(1000));
    assert_eq!(server.request(client(1), &read("tsize 0 blksize 8")), [oack("tsize 1000 blksize 8")]);
}

#[test]
fn a_client_that_ignores_the_oack_may_ask_again_without_options() {
    let mut server = Server::new(pattern(1000));
    server.request(client(1), &read("blksize 1000"));
    assert_eq!(blocks(&server.request(client(1), &read(""))), [1]);
    assert_eq!(server.outcomes(), [Outcome::Replaced]);
}

#[test]
fn a_block_fits_the_mtu_of_the_interface() {
    for (mtu, expected) in [(1500, 1468), (1400, 1368), (9000, 1468)] {
        let mut server = Server::new(pattern(5000));
        server.mtu = Some(mtu);
        assert_eq!(server.request(client(1), &read("blksize 65464")), [oack(&format!("blksize {expected}"))]);
    }
}

#[test]
fn windows_are_capped_at_16_and_by_configuration_at_64_or_at_1() {
    for (cap, expected) in [(16, 16), (64, 64), (1000, 64), (1, 1)] {
        let mut server = Server::with_limits(pattern(5000), Limits { window: cap, ..Limits::default() });
        let answer = server.request(client(1), &read("windowsize 65535"));
        assert_eq!(answer, [oack(&format!("windowsize {expected}"))]);
    }
    assert_eq!(Limits::default().window, 16);
}

#[test]
fn replies_leave_from_the_address_that_was_asked() {
    let mut server = Server::new(pattern(5000));
    let addresses = [IpAddr::from([192, 0, 2, 200]), "2001:db8::7".parse().expect("an address")];
    for (number, local) in addresses.into_iter().enumerate() {
        let client = client(number as u16);
        server.local = Some(local);
        server.request(client, &read("blksize 1000"));
        assert_eq!(server.parcel.from, Some(local));
        server.local = None;
        server.ack(client, 0);
        assert_eq!((server.parcel.to, server.parcel.from), (client, Some(local)));
        server.pass(ms(1000));
        assert_eq!(server.parcel.from, Some(local));
        server.receive(client, b"\0\x05\0\x00\0");
    }
}

#[test]
fn the_kernel_is_not_told_what_it_does_by_itself_until_an_answer_stays_away() {
    let mut server = Server::new(pattern(5000));
    server.local = Some(IpAddr::from([192, 0, 2, 200]));
    server.local_is_usual = true;
    server.request(client(1), &read("blksize 1000"));
    server.ack(client(1), 0);
    assert_eq!(server.parcel.from, None);
    assert!(!server.pass(ms(1000)).is_empty());
    server.ack(client(1), 1);
    assert_eq!(server.parcel.from, server.local);
}

#[test]
fn what_was_sent_to_everybody_or_cannot_be_answered_gets_no_answer() {
    let mut server = Server::new(pattern(5000));
    for local in ["255.255.255.255", "224.0.0.1", "ff02::1"] {
        server.local = Some(local.parse().expect("an address"));
        assert_eq!(server.request(client(1), &read("")), NOTHING);
    }
    server.local = None;
    assert_eq!(server.request(SocketAddr::from(([192, 0, 2, 1], 0)), &read("")), NOTHING);
    assert!(server.table.is_empty());
}

#[test]
fn the_same_port_may_ask_again_after_a_probe_and_gets_the_new_transfer() {
    let mut server = Server::new(pattern(5000));
    server.request(client(1), &read("tsize 0"));
    server.receive(client(1), b"\0\x05\0\x00\0");
    assert_eq!(server.request(client(1), &read("blksize 1456")), [oack("blksize 1456")]);
    assert_eq!(blocks(&server.ack(client(1), 0)), [1]);
}

#[test]
fn a_new_request_from_the_same_port_replaces_the_old_transfer() {
    let (mut server, client, _) = started(5000, "tsize 0");
    assert_eq!(server.request(client, &read("blksize 1456")), [oack("blksize 1456")]);
    assert_eq!(server.outcomes(), [Outcome::Replaced]);
    assert_eq!(blocks(&server.ack(client, 0)), [1]);
}

#[test]
fn a_request_that_comes_twice_opens_one_transfer() {
    let mut server = Server::new(pattern(5000));
    let first = server.request(client(1), &read("blksize 1000"));
    assert_eq!(server.request(client(1), &read("blksize 1000")), first, "the answer again");
    assert_eq!(blocks(&server.ack(client(1), 0)), [1]);
    assert_eq!(server.request(client(1), &read("blksize 1000")), NOTHING, "a late duplicate");
    assert_eq!(blocks(&server.ack(client(1), 1)), [2], "does not disturb");
    assert_eq!(server.events().len(), 0);
}

#[test]
fn a_client_that_begins_anew_with_the_same_request_is_served() {
    let (mut server, client, _) = started(5000, "blksize 1000");
    server.pass(ms(1000));
    assert_eq!(server.request(client, &read("blksize 1000")), [oack("blksize 1000")]);
    assert_eq!(server.outcomes(), [Outcome::Replaced]);
}

#[test]
fn a_new_port_is_a_new_transfer() {
    let mut server = Server::new(pattern(5000));
    server.request(client(1), &read(""));
    server.request(client(2), &read(""));
    assert_eq!(blocks(&server.ack(client(2), 1)), [2]);
    assert_eq!(blocks(&server.ack(client(1), 1)), [2]);
}

#[test]
fn transfers_are_capped_for_all_and_for_each_client_with_a_polite_error() {
    let limits = Limits { transfers: 3, transfers_per_client: 2, ..Limits::default() };
    let mut server = Server::with_limits(pattern(5000), limits);
    assert_eq!(blocks(&server.request(client(1), &read(""))), [1]);
    assert_eq!(blocks(&server.request(client(2), &read(""))), [1]);
    assert_eq!(error_code(&server.request(client(3), &read(""))), 0);
    let other = |port| SocketAddr::from(([192, 0, 2, 2], port));
    assert_eq!(blocks(&server.request(other(1), &read(""))), [1]);
    assert_eq!(error_code(&server.request(other(2), &read(""))), 0);
    assert_eq!(server.outcomes(), [Outcome::Busy, Outcome::Busy]);
    server.receive(client(1), b"\0\x05\0\x00\0");
    assert_eq!(blocks(&server.request(client(3), &read(""))), [1], "a place is free again");
}

#[test]
fn names_are_bytes_and_what_firmware_appends_is_cut() {
    for name in [&b"file\xff"[..], b"/file", b"\\file\xff\x01garbage", b"file\x80"] {
        let mut server = Server::new(pattern(100));
        let packet = [b"\0\x01", name, b"\0OcTeT\0"].concat();
        assert_eq!(blocks(&server.request(client(1), &packet)), [1], "{name:?}");
    }
}

#[test]
fn netascii_is_served_as_octets() {
    let mut server = Server::new(b"a\nb".to_vec());
    assert_eq!(server.request(client(1), b"\0\x01file\0NETASCII\0"), [b"\0\x03\0\x01a\nb".to_vec()]);
}

#[test]
fn an_unknown_name_is_answered_with_error_1() {
    let mut server = Server::new(pattern(100));
    for name in [&b"other"[..], b"../file", b"\xff"] {
        let packet = [b"\0\x01", name, b"\0octet\0tsize\x000\0"].concat();
        assert_eq!(error_code(&server.request(client(1), &packet)), 1);
    }
    assert!(server.outcomes().iter().all(|outcome| *outcome == Outcome::NotFound));
    assert!(server.table.is_empty());
}

#[test]
fn a_write_is_refused_and_a_request_without_sense_too() {
    let mut server = Server::new(pattern(100));
    assert_eq!(error_code(&server.request(client(1), b"\0\x02file\0octet\0")), 2);
    assert_eq!(error_code(&server.request(client(1), b"\0\x01file")), 4);
    assert_eq!(server.outcomes(), [Outcome::Refused, Outcome::Refused]);
}

#[test]
fn a_file_is_asked_for_once_whatever_is_lost() {
    let (mut server, client, _) = started(5000, "blksize 1000 windowsize 4");
    server.pass(ms(3000));
    server.request(client, &read("blksize 1000 windowsize 4"));
    server.ack(client, 1);
    assert_eq!(server.shelf.0.lock().expect("not poisoned").1, 2, "once for each transfer");
}

#[test]
fn a_new_set_of_files_does_not_disturb_running_transfers() {
    let (mut server, first, _) = started(1500, "blksize 1000");
    server.shelf.0.lock().expect("not poisoned").0 = Bytes::from_static(b"new");
    assert_eq!(server.ack(first, 1)[0][4..], pattern(1500)[1000..]);
    assert_eq!(server.request(client(2), &read(""))[0][4..], *b"new");
}

#[test]
fn strangers_and_late_duplicates_are_met_with_silence() {
    let mut server = Server::new(pattern(100));
    server.request(client(1), &read(""));
    assert_eq!(server.ack(client(2), 1), NOTHING);
    assert_eq!(server.ack(client(1), 1), NOTHING, "complete");
    assert_eq!(server.ack(client(1), 1), NOTHING, "its duplicate");
}
