//! Requests: responses, options, names, ports and limits, one sentence per test.

use super::*;

#[test]
fn an_error_after_an_oack_with_the_size_is_a_probe() {
    for code in [8, 0] {
        let mut server = TestServer::new(pattern(5000));
        let response = server.send_request(client(1), &read_request("tsize 0 blksize 1468 windowsize 4"));
        assert_eq!(response, [oack_packet("tsize 5000 blksize 1468 windowsize 4")]);
        server.send_packet(client(1), &[0, 5, 0, code, b'x', 0]);
        assert!(server.table.is_empty());
        assert_eq!(server.outcomes(), [TransferEnd::Probe]);
    }
}

#[test]
fn an_error_after_an_oack_without_the_size_is_an_abort() {
    let mut server = TestServer::new(pattern(5000));
    server.send_request(client(1), &read_request("blksize 1468"));
    server.send_packet(client(1), b"\0\x05\0\x08no\0");
    assert_eq!(server.outcomes(), [TransferEnd::Aborted { code: 8, message: "no".into() }]);
}

#[test]
fn the_response_to_a_request_without_options_is_block_1() {
    let mut server = TestServer::new(pattern(1000));
    let response = server.send_request(client(1), &read_request(""));
    assert_eq!((block_numbers(&response), response[0].len()), (vec![1], 4 + 512));
}

#[test]
fn an_oack_longer_than_a_block_is_one_packet() {
    let mut server = TestServer::new(pattern(1000));
    assert_eq!(
        server.send_request(client(1), &read_request("tsize 0 blksize 8")),
        [oack_packet("tsize 1000 blksize 8")]
    );
}

#[test]
fn a_client_that_ignores_the_oack_may_repeat_the_request_without_options() {
    let mut server = TestServer::new(pattern(1000));
    server.send_request(client(1), &read_request("blksize 1000"));
    assert_eq!(block_numbers(&server.send_request(client(1), &read_request(""))), [1]);
    assert_eq!(server.outcomes(), [TransferEnd::Replaced]);
}

#[test]
fn a_block_fits_the_mtu_of_the_interface() {
    for (mtu, expected) in [(1500, 1468), (1400, 1368), (9000, 1468)] {
        let mut server = TestServer::new(pattern(5000));
        server.mtu = Some(mtu);
        assert_eq!(
            server.send_request(client(1), &read_request("blksize 65464")),
            [oack_packet(&format!("blksize {expected}"))]
        );
    }
}

#[test]
fn windows_are_capped_at_16_and_by_configuration_between_1_and_64() {
    for (cap, expected) in [(16, 16), (64, 64), (1000, 64), (1, 1)] {
        let mut server = TestServer::with_limits(
            pattern(5000),
            TransferLimits { window_size: cap, ..TransferLimits::default() },
        );
        let response = server.send_request(client(1), &read_request("windowsize 65535"));
        assert_eq!(response, [oack_packet(&format!("windowsize {expected}"))]);
    }
    assert_eq!(TransferLimits::default().window_size, 16);
}

#[test]
fn responses_leave_from_the_address_of_the_request() {
    let mut server = TestServer::new(pattern(5000));
    let addresses = [IpAddr::from([192, 0, 2, 200]), "2001:db8::7".parse().expect("an address")];
    for (number, local_ip) in addresses.into_iter().enumerate() {
        let client = client(number as u16);
        server.local_ip = Some(local_ip);
        server.send_request(client, &read_request("blksize 1000"));
        assert_eq!(server.transmit.source_ip, Some(local_ip));
        server.local_ip = None;
        server.send_ack(client, 0);
        assert_eq!((server.transmit.destination, server.transmit.source_ip), (client, Some(local_ip)));
        server.advance(ms(1000));
        assert_eq!(server.transmit.source_ip, Some(local_ip));
        server.send_packet(client, b"\0\x05\0\x00\0");
    }
}

#[test]
fn the_default_source_address_is_set_only_after_a_time_out() {
    let mut server = TestServer::new(pattern(5000));
    server.local_ip = Some(IpAddr::from([192, 0, 2, 200]));
    server.is_default_source = true;
    server.send_request(client(1), &read_request("blksize 1000"));
    server.send_ack(client(1), 0);
    assert_eq!(server.transmit.source_ip, None);
    assert!(!server.advance(ms(1000)).is_empty());
    server.send_ack(client(1), 1);
    assert_eq!(server.transmit.source_ip, server.local_ip);
}

#[test]
fn broadcasts_multicasts_and_port_0_get_no_response() {
    let mut server = TestServer::new(pattern(5000));
    for local_ip in ["255.255.255.255", "224.0.0.1", "ff02::1"] {
        server.local_ip = Some(local_ip.parse().expect("an address"));
        assert_eq!(server.send_request(client(1), &read_request("")), NO_PACKETS);
    }
    server.local_ip = None;
    assert_eq!(server.send_request(SocketAddr::from(([192, 0, 2, 1], 0)), &read_request("")), NO_PACKETS);
    assert!(server.table.is_empty());
}

#[test]
fn a_request_from_the_same_port_after_a_probe_starts_a_transfer() {
    let mut server = TestServer::new(pattern(5000));
    server.send_request(client(1), &read_request("tsize 0"));
    server.send_packet(client(1), b"\0\x05\0\x00\0");
    assert_eq!(server.send_request(client(1), &read_request("blksize 1456")), [oack_packet("blksize 1456")]);
    assert_eq!(block_numbers(&server.send_ack(client(1), 0)), [1]);
}

#[test]
fn a_new_request_from_the_same_port_replaces_the_old_transfer() {
    let (mut server, client, _) = start_transfer(5000, "tsize 0");
    assert_eq!(server.send_request(client, &read_request("blksize 1456")), [oack_packet("blksize 1456")]);
    assert_eq!(server.outcomes(), [TransferEnd::Replaced]);
    assert_eq!(block_numbers(&server.send_ack(client, 0)), [1]);
}

#[test]
fn a_duplicate_request_starts_no_second_transfer() {
    let mut server = TestServer::new(pattern(5000));
    let first = server.send_request(client(1), &read_request("blksize 1000"));
    assert_eq!(server.send_request(client(1), &read_request("blksize 1000")), first, "the response again");
    assert_eq!(block_numbers(&server.send_ack(client(1), 0)), [1]);
    assert_eq!(server.send_request(client(1), &read_request("blksize 1000")), NO_PACKETS, "a late duplicate");
    assert_eq!(block_numbers(&server.send_ack(client(1), 1)), [2], "the transfer continues");
    assert_eq!(server.events().len(), 0);
}

#[test]
fn a_client_that_restarts_with_the_same_request_is_served() {
    let (mut server, client, _) = start_transfer(5000, "blksize 1000");
    server.advance(ms(1000));
    assert_eq!(server.send_request(client, &read_request("blksize 1000")), [oack_packet("blksize 1000")]);
    assert_eq!(server.outcomes(), [TransferEnd::Replaced]);
}

#[test]
fn a_new_port_is_a_new_transfer() {
    let mut server = TestServer::new(pattern(5000));
    server.send_request(client(1), &read_request(""));
    server.send_request(client(2), &read_request(""));
    assert_eq!(block_numbers(&server.send_ack(client(2), 1)), [2]);
    assert_eq!(block_numbers(&server.send_ack(client(1), 1)), [2]);
}

#[test]
fn transfers_beyond_a_limit_get_silence() {
    let limits = TransferLimits { transfers: 3, transfers_per_client: 2, ..TransferLimits::default() };
    let mut server = TestServer::with_limits(pattern(5000), limits);
    let other = |port| SocketAddr::from(([192, 0, 2, 2], port));
    for client in [client(1), client(2), other(1)] {
        assert_eq!(block_numbers(&server.send_request(client, &read_request(""))), [1]);
        assert_eq!(block_numbers(&server.send_ack(client, 1)), [2]);
    }
    for client in [client(3), other(2)] {
        assert_eq!(server.send_request(client, &read_request("")), NO_PACKETS);
    }
    assert_eq!(server.outcomes(), [TransferEnd::Busy, TransferEnd::Busy]);
    server.send_packet(client(1), b"\0\x05\0\x00\0");
    assert_eq!(
        block_numbers(&server.send_request(client(3), &read_request(""))),
        [1],
        "a permit is free again"
    );
}

#[test]
fn bytes_that_firmware_appends_to_a_name_are_removed() {
    for name in [&b"file\xff"[..], b"/file", b"\\file\xff\x01garbage", b"file\x80"] {
        let mut server = TestServer::new(pattern(100));
        let packet = [b"\0\x01", name, b"\0OcTeT\0"].concat();
        assert_eq!(block_numbers(&server.send_request(client(1), &packet)), [1], "{name:?}");
    }
}

#[test]
fn netascii_is_served_as_octets() {
    let mut server = TestServer::new(b"a\nb".to_vec());
    assert_eq!(server.send_request(client(1), b"\0\x01file\0NETASCII\0"), [b"\0\x03\0\x01a\nb".to_vec()]);
}

#[test]
fn an_unknown_name_gets_error_1() {
    let mut server = TestServer::new(pattern(100));
    for name in [&b"other"[..], b"../file", b"\xff"] {
        let packet = [b"\0\x01", name, b"\0octet\0tsize\x000\0"].concat();
        assert_eq!(error_code(&server.send_request(client(1), &packet)), 1);
    }
    assert!(server.outcomes().iter().all(|outcome| *outcome == TransferEnd::NotFound));
    assert!(server.table.is_empty());
}

#[test]
fn writes_and_malformed_requests_are_refused() {
    let mut server = TestServer::new(pattern(100));
    assert_eq!(error_code(&server.send_request(client(1), b"\0\x02file\0octet\0")), 2);
    assert_eq!(error_code(&server.send_request(client(1), b"\0\x01file")), 4);
    assert_eq!(server.outcomes(), [TransferEnd::Refused, TransferEnd::Refused]);
}

#[test]
fn a_transfer_reads_its_file_once_despite_losses() {
    let (mut server, client, _) = start_transfer(5000, "blksize 1000 windowsize 4");
    server.advance(ms(3000));
    server.send_request(client, &read_request("blksize 1000 windowsize 4"));
    server.send_ack(client, 1);
    assert_eq!(server.files.0.lock().1, 2, "once per transfer");
}

#[test]
fn running_transfers_keep_their_file_when_the_set_changes() {
    let (mut server, first, _) = start_transfer(1500, "blksize 1000");
    server.files.0.lock().0 = Bytes::from_static(b"new");
    assert_eq!(server.send_ack(first, 1)[0][4..], pattern(1500)[1000..]);
    assert_eq!(server.send_request(client(2), &read_request(""))[0][4..], *b"new");
}

#[test]
fn unknown_clients_and_late_duplicates_get_no_response() {
    let mut server = TestServer::new(pattern(100));
    server.send_request(client(1), &read_request(""));
    assert_eq!(server.send_ack(client(2), 1), NO_PACKETS);
    assert_eq!(server.send_ack(client(1), 1), NO_PACKETS, "complete");
    assert_eq!(server.send_ack(client(1), 1), NO_PACKETS, "a duplicate");
}
