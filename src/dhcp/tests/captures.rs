//! Requests of real hardware, rebuilt from public captures and bug reports: order and content of the options, and lengths.

use super::*;
use crate::dhcp::RequestKind;
use crate::dhcp::request::DhcpRequest;

/// A request with these options, padded to `length`.
fn rebuild(head: &[(usize, &[u8])], options: &[(u8, &[u8])], length: usize) -> Vec<u8> {
    let mut packet = Packet { options: Vec::new(), padding: length, ..Packet::discover("", 0) };
    for (at, bytes) in head {
        packet = packet.with_head(*at, bytes);
    }
    for (code, value) in options {
        packet = packet.with(*code, value);
    }
    packet.bytes()
}

/// The BIOS ROM of an ASRock board with a Realtek card (pixiecore's test data).
#[test]
fn bios_rom_of_2016() {
    let parameters: Vec<u8> = (1..=6)
        .chain([11, 12, 13, 15, 16, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67])
        .chain(128..=135)
        .collect();
    let guid = [0, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9];
    let options: [(u8, &[u8]); 7] = [
        (53, &[1]),
        (55, &parameters),
        (57, &[4, 0xec]),
        (97, &guid),
        (93, &[0, 0]),
        (94, &[1, 2, 1]),
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
    ];
    let bytes = rebuild(&[(4, &[0x9b, 0x4e, 5, 0x57]), (10, &[0x80, 0])], &options, 548);
    let answer = answer(&broadcast(&bytes), "undionly.kpxe");
    assert_eq!(answer.bytes[4..8], [0x9b, 0x4e, 5, 0x57]);
    assert!(answer.bytes.windows(19).any(|window| window == [&[97, 17], &guid[..]].concat()));
    assert!(answer.bytes.windows(6).any(|window| window == [43, 4, 6, 1, 8, 255]));
}

/// iPXE in a server with UEFI (metal3-io/baremetal-operator, issue 446): a user class that is no list, no broadcast flag.
#[test]
fn user_class_that_other_servers_reject() {
    let options: [(u8, &[u8]); 8] = [
        (53, &[1]),
        (57, &[5, 0xc0]),
        (93, &[0, 7]),
        (94, &[1, 3, 10]),
        (60, b"PXEClient:Arch:00007:UNDI:003010"),
        (77, b"iPXE"),
        (55, &[1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, 128, 175, 203]),
        (175, &[177, 5, 1, 0x14, 0xe4, 0x16, 0x5f, 19, 1, 1, 17, 1, 1, 36, 1, 1]),
    ];
    let bytes = rebuild(&[(8, &[0, 12]), (10, &[0, 0])], &options, 388);
    let request = DhcpRequest::parse(&bytes).expect("a request");
    assert_eq!(request.ipxe, Some(vec![177, 19, 17, 36]));
    let answer = answer(&broadcast(&bytes), "http://192.0.2.1:8080/boot.ipxe");
    assert_eq!(answer.destination, "255.255.255.255:68".parse().expect("an address"));
}

/// EDK2's request to the boot server (OVMF 2022.11): no option 54, the largest message as 0xff00, its own port 4011.
#[test]
fn edk2_at_the_boot_server() {
    let options: [(u8, &[u8]); 6] = [
        (53, &[3]),
        (57, &[0xff, 0]),
        (97, &GUID),
        (94, &[1, 3, 0]),
        (93, &[0, 7]),
        (60, b"PXEClient:Arch:00007:UNDI:003000"),
    ];
    let bytes = rebuild(&[(10, &[0, 0]), (12, &CLIENT.octets())], &options, 348);
    let datagram = to_boot_server(&bytes, 4011);
    let now = Instant::now();
    let disposition = Engine::new(false, now).receive(&datagram, |_| false, now);
    let Disposition::LookUp(pending) = disposition else { panic!("{disposition:?}") };
    assert_eq!(pending.kind, RequestKind::BootServer { address: CLIENT });
    assert_eq!(answer(&datagram, "snponly.efi").destination, SocketAddrV4::new(CLIENT, 4011));
}

/// Firmware that appends bytes to the vendor class, sends an odd list of architectures, and ends without an end mark.
#[test]
fn sloppy_options() {
    let mut bytes =
        rebuild(&[], &[(53, &[1]), (60, b"PXEClient:Arch:00000:UNDI:002001\0\0"), (93, &[0, 0, 0])], 0);
    assert_eq!(bytes.pop(), Some(255));
    let request = DhcpRequest::parse(&bytes).expect("a request");
    assert_eq!(
        (request.vendor_class.as_str(), request.architectures.as_slice()),
        ("PXEClient:Arch:00000:UNDI:002001", &[0][..])
    );
}
