//! What firmware is served over TFTP, as the operator says where and how.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use crate::daemon::{Daemon, LIMIT, site, volboot};

/// Reads a small file over TFTP: its one block, or the text of the error.
pub(crate) fn tftp(door: SocketAddr, name: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    socket.set_read_timeout(Some(LIMIT)).expect("is set");
    socket.send_to(format!("\0\u{1}{name}\0octet\0").as_bytes(), door).expect("is sent");
    let mut packet = [0; 600];
    let (size, peer) = socket.recv_from(&mut packet).expect("is answered");
    // Block 1 is acknowledged, so that the transfer ends.
    socket.send_to(&[0, 4, 0, 1], peer).expect("is sent");
    String::from_utf8_lossy(&packet[4..size]).into_owned()
}

/// What `site` wrote, with other lines before or in its sections.
pub(crate) fn rewrite(site: &Path, changes: &[(&str, &str)]) {
    let path = site.join("volboot.toml");
    let mut text = std::fs::read_to_string(&path).expect("text");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, to);
    }
    std::fs::write(path, text).expect("is written");
}

/// Asks for a file and hears the answer.
pub(crate) fn ask(door: SocketAddr, name: &str, options: &str) -> (UdpSocket, Vec<u8>, SocketAddr) {
    let any = if door.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).expect("binds");
    socket.set_read_timeout(Some(LIMIT)).expect("is set");
    let request = format!("\0\u{1}{name}\0octet\0{}", options.replace(' ', "\0"));
    socket.send_to(request.as_bytes(), door).expect("is sent");
    let (packet, peer) = hear(&socket);
    (socket, packet, peer)
}

pub(crate) fn hear(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut packet = vec![0; 2000];
    let (size, peer) = socket.recv_from(&mut packet).expect("is answered");
    packet.truncate(size);
    (packet, peer)
}

#[test]
fn ports_blocks_windows_and_how_many_at_once_are_the_operators_to_say() {
    let site = site("");
    let keys = "[tftp]\nports = \"single\"\nblock_size = 1000\nwindow = 4\ntransfers_per_client = 2\n";
    rewrite(site.path(), &[("[tftp]\n", keys)]);
    let daemon = Daemon::start(site.path());
    let asked = "blksize 1468 windowsize 16 ";
    let (_first, taken, peer) = ask(daemon.tftp, "boot.ipxe", asked);
    assert_eq!(taken, b"\0\x06blksize\x001000\0windowsize\x004\0");
    assert_eq!(peer, daemon.tftp, "the port that was asked");
    let (_second, taken, _) = ask(daemon.tftp, "boot.ipxe", asked);
    assert_eq!(taken[..2], [0, 6]);
    let (_third, refused, _) = ask(daemon.tftp, "boot.ipxe", asked);
    assert_eq!(refused, b"\0\x05\0\0Too many transfers, please try again\0");
    drop(daemon);

    rewrite(site.path(), &[("transfers_per_client", "transfers"), ("\"single\"", "\"42300-42399\"")]);
    let daemon = Daemon::start(site.path());
    let (_first, _, peer) = ask(daemon.tftp, "boot.ipxe", asked);
    assert!((42_300..=42_399).contains(&peer.port()), "{peer}");
    let (_second, ..) = ask(daemon.tftp, "boot.ipxe", asked);
    let (_third, refused, _) = ask(daemon.tftp, "boot.ipxe", asked);
    assert_eq!(refused[..2], [0, 5]);
}

#[test]
fn every_address_that_is_listed_is_listened_on_and_answers_for_itself() {
    let first_site = site("");
    rewrite(
        first_site.path(),
        &[(
            "[tftp]\nlisten = \"127.0.0.1:0\"",
            "[tftp]\nlisten = [\"127.0.0.2:0\", \"0.0.0.0:0\", \"[::1]:0\"]",
        )],
    );
    let daemon = Daemon::start(first_site.path());
    let [first, second, third] = daemon.all_tftp[..] else { panic!("{:?}", daemon.all_tftp) };
    for door in [first, SocketAddr::new([127, 0, 0, 3].into(), second.port()), third] {
        let (_, answer, peer) = ask(door, "boot.ipxe", "");
        assert_eq!((&answer[..4], peer.ip()), (&[0, 3, 0, 1][..], door.ip()));
    }
    let taken = format!("[tftp]\nlisten = [\"127.0.0.1:0\", \"{first}\"]");
    let other = site("");
    rewrite(other.path(), &[("[tftp]\nlisten = \"127.0.0.1:0\"", &taken)]);
    let config = other.path().join("volboot.toml");
    let refused = volboot(&["serve", "--config", config.to_str().expect("text")]).output().expect("runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains(&format!("cannot listen on {first} (tftp)")),
        "{said}"
    );
}

/// A server that makes or fetches a file while the others wait does not belong in a boot storm.
#[test]
fn files_are_in_memory_so_that_no_request_waits_for_a_disk() {
    let site = site("");
    let images = site.path().join("images");
    std::fs::create_dir(&images).expect("is made");
    std::fs::write(images.join("undionly.kpxe"), "iPXE").expect("is written");
    rewrite(site.path(), &[("images = []", &format!("images = [\"{}\"]", images.display()))]);
    let daemon = Daemon::start(site.path());
    std::fs::remove_dir_all(&images).expect("goes");
    assert_eq!(tftp(daemon.tftp, "undionly.kpxe"), "iPXE");
}
