//! Requests that get no answer, and requests with faults that do.

use std::time::Duration;

use super::*;
use crate::dhcp::RequestKind;
use crate::dhcp::answer_limit::{ANSWERS_PER_MACHINE, AnswerLimiter, MAX_ANSWERS};
use crate::dhcp::request::DhcpRequest;

fn is_dropped(datagram: &Datagram<'_>) -> bool {
    exchange(datagram, "undionly.kpxe").is_none()
}

#[test]
fn clients_that_do_not_boot_over_the_network_get_no_answer() {
    let good = Packet::discover("PXEClient", 0);
    assert!(!is_dropped(&broadcast(&good.bytes())));
    let other_class = |class: &str| {
        let class = [&[60, class.len() as u8], class.as_bytes()].concat();
        Packet { options: [vec![53, 1, 1], class, vec![93, 2, 0, 0]].concat(), ..good.clone() }
    };
    for packet in [
        other_class(""),
        other_class("MSFT 5.0"),
        other_class("pxeclient"),
        other_class("anacondaPXEClient"),
        Packet { options: vec![53, 1, 1, 93, 2, 0, 0], ..good.clone() },
        // A reply, another hardware, another length of its address, no address, a group address.
        good.clone().with_head(0, &[2]),
        good.clone().with_head(1, &[32]),
        good.clone().with_head(2, &[16]),
        good.clone().with_head(2, &[255]),
        good.clone().with_head(28, &[0; 6]),
        good.clone().with_head(28, &[1]),
        // Another magic cookie, and BOOTP without a message type.
        good.clone().with_head(236, &[99, 130, 83, 100]),
        Packet { options: good.options[3..].to_vec(), ..good.clone() },
    ] {
        assert!(is_dropped(&broadcast(&packet.bytes())), "{packet:?}");
    }
    for message_type in (0..20).filter(|message_type| ![1, 3].contains(message_type)) {
        assert!(is_dropped(&broadcast(&Packet::new(message_type, "PXEClient", 0).bytes())), "{message_type}");
    }
}

#[test]
fn requests_to_the_sites_server_are_only_observed() {
    let request = Packet::new(3, "PXEClient", 7).with(50, &CLIENT.octets()).with(54, &[192, 0, 2, 254]);
    let now = Instant::now();
    let step = Engine::new(false, now).receive(&broadcast(&request.bytes()), |_| true, now);
    let Disposition::Observe(client, kind, ExchangeResult::Observed) = step else { panic!("{step:?}") };
    assert_eq!((client.mac, client.architecture()), (MAC, Some(7)));
    let server = Some(Ipv4Addr::new(192, 0, 2, 254));
    assert_eq!(kind, RequestKind::Request { address: Some(CLIENT), server, is_watched: false });
}

#[test]
fn unicasts_without_a_relay_get_no_answer() {
    let bytes = Packet::discover("PXEClient", 0).bytes();
    let source = "203.0.113.9:68".parse().expect("an address");
    assert!(is_dropped(&Datagram { source, destination: SERVER, ..broadcast(&bytes) }));
    let relayed = Packet::discover("PXEClient", 0).forwarded_by(Ipv4Addr::new(203, 0, 113, 9)).bytes();
    for destination in [SERVER, Ipv4Addr::BROADCAST] {
        let (result, answer) =
            exchange(&Datagram { destination, ..broadcast(&relayed) }, "x").expect("a request");
        assert_eq!((result, answer), (ExchangeResult::RelayNotNamed, None));
    }
}

#[test]
fn interface_without_an_address_gets_no_answer() {
    let bytes = Packet::discover("PXEClient", 0).bytes();
    assert!(is_dropped(&Datagram { local_ip: Ipv4Addr::UNSPECIFIED, ..broadcast(&bytes) }));
}

#[test]
fn boot_server_answers_clients_with_an_address_only() {
    let bytes = Packet::new(3, "PXEClient", 7).bytes();
    let from =
        |source: &str| Datagram { source: source.parse().expect("an address"), ..to_boot_server(&bytes, 68) };
    assert!(!is_dropped(&from("192.0.2.57:68")));
    for source in ["192.0.2.57:53", "192.0.2.57:67", "0.0.0.0:68", "255.255.255.255:68", "224.0.0.1:4011"] {
        assert!(is_dropped(&from(source)), "{source}");
    }
    let relayed = Packet::new(3, "PXEClient", 7).forwarded_by(RELAY).bytes();
    assert!(is_dropped(&to_boot_server(&relayed, 68)));
    assert!(is_dropped(&to_boot_server(&Packet::discover("PXEClient", 7).bytes(), 68)));
}

#[test]
fn short_requests_get_no_long_answer() {
    let packet = Packet { padding: 0, ..Packet::discover("PXEClient", 0) };
    let (long, short) = ("n".repeat(200), "undionly.kpxe");
    let result = |name: &str| exchange(&broadcast(&packet.bytes()), name).expect("a request").0;
    assert_eq!(result(&long), ExchangeResult::Answered(file(&long)), "506 bytes for 284");
    let with_relay = packet.clone().forwarded_by(RELAY).with(82, &[7; 200]);
    let bytes = with_relay.bytes();
    let answer = exchange(&broadcast(&bytes), short).expect("a request").1.expect("an answer");
    assert!(answer.bytes.len() <= 2 * bytes.len());
    let twin = Packet { padding: 0, ..Packet::discover("PXEClient", 0) };
    let no_class = twin.bytes().len();
    assert!(no_class > 150, "a request has more than half of the shortest answer: {no_class}");
}

#[test]
fn a_malformed_option_hides_no_other() {
    let odd = |code, value: &[u8]| {
        let packet = Packet { options: vec![53, 1, 1], ..Packet::discover("PXEClient", 0) };
        packet
            .with(code, value)
            .with(60, b"PXEClient:Arch:00007:UNDI:003016\xff\xff")
            .with(93, &[0, 7, 0, 0, 9])
    };
    for (code, value) in [
        (57, &[5][..]),
        (94, &[1]),
        (94, &[1, 3, 16, 0]),
        (80, &[1]),
        (50, &[1, 2, 3]),
        (54, &[]),
        (81, &[0]),
        (82, &[1, 200]),
        (97, &[0; 40]),
        (119, &[200, 1]),
        (151, &[]),
        (175, &[19]),
    ] {
        let request = DhcpRequest::parse(&odd(code, value).bytes()).expect("a request");
        assert_eq!(request.architectures, [7, 0], "option {code}");
        assert_eq!(request.vendor_class, "PXEClient:Arch:00007:UNDI:003016", "option {code}");
    }
    let request = DhcpRequest::parse(&odd(97, &[0; 40]).bytes()).expect("a request");
    assert_eq!(request.machine_id, None, "no identifier is that long");
    let split = odd(0, &[]).with(175, &[177, 3, 1]).with(175, &[2, 3, 19, 1, 1, 17, 1, 1, 235]);
    let request = DhcpRequest::parse(&split.bytes()).expect("a request");
    assert_eq!(request.ipxe, Some(vec![177, 19, 17]), "a long option in two parts (RFC 3396)");
}

#[test]
fn answers_are_limited_by_machine_and_in_total() {
    let start = Instant::now();
    let mut limiter = AnswerLimiter::new(start);
    let machine = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        [2, 0, a, b, c, d]
    };
    let mut admit = |number, seconds| limiter.admit(machine(number), start + Duration::from_secs(seconds));
    assert_eq!((0..100).filter(|_| admit(0, 0)).count() as u32, ANSWERS_PER_MACHINE);
    assert!(admit(1, 9) && !admit(0, 9) && admit(0, 10));
    // Ten thousand machines at once need three answers each.
    assert!((0..30_000).all(|request| admit(request % 10_000, 25)));
    let others = (0..500_000).filter(|number| admit(20_000 + number, 26)).count() as u32;
    assert_eq!(others, MAX_ANSWERS - 30_000);
    assert!(limiter.machine_count() <= MAX_ANSWERS as usize);
}
