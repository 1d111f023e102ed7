//! The daemon's TFTP server: files, addresses and limits as configured.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;

use crate::daemon::{Daemon, LIMIT, site, volboot};

/// The block size without an option (RFC 1350 §2).
const BLOCK_SIZE: usize = 512;

/// Reads a file over TFTP: returns its content, or the text of the error.
pub(crate) fn tftp_get(server: SocketAddr, name: &str) -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    socket.set_read_timeout(Some(LIMIT)).expect("a read time-out");
    socket.send_to(format!("\0\u{1}{name}\0octet\0").as_bytes(), server).expect("sends the request");
    let mut content = Vec::new();
    for block in 1_u16.. {
        let mut packet = [0; 4 + BLOCK_SIZE];
        let (size, peer) = socket.recv_from(&mut packet).expect("a response");
        let [high, low] = block.to_be_bytes();
        if packet[..2] == [0, 5] {
            return String::from_utf8_lossy(&packet[4..size]).into_owned();
        }
        assert_eq!(packet[..4], [0, 3, high, low], "the next DATA is expected");
        content.extend_from_slice(&packet[4..size]);
        socket.send_to(&[0, 4, high, low], peer).expect("sends the ACK");
        if size < packet.len() {
            break;
        }
    }
    String::from_utf8_lossy(&content).into_owned()
}

/// Replaces lines in the configuration that `site` wrote.
pub(crate) fn edit_config(site: &Path, changes: &[(&str, &str)]) {
    let path = site.join("volboot.toml");
    let mut text = std::fs::read_to_string(&path).expect("text");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, to);
    }
    std::fs::write(path, text).expect("writes the configuration");
}

/// Requests a file; returns the client's socket, the response and its source address.
pub(crate) fn send_read_request(
    server: SocketAddr,
    name: &str,
    options: &str,
) -> (UdpSocket, Vec<u8>, SocketAddr) {
    let address = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(address).expect("binds");
    socket.set_read_timeout(Some(LIMIT)).expect("a read time-out");
    let request = format!("\0\u{1}{name}\0octet\0{}", options.replace(' ', "\0"));
    socket.send_to(request.as_bytes(), server).expect("sends the request");
    let (packet, peer) = receive(&socket);
    (socket, packet, peer)
}

pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut packet = vec![0; 2000];
    let (size, peer) = socket.recv_from(&mut packet).expect("a response");
    packet.truncate(size);
    (packet, peer)
}

#[test]
fn ports_block_size_window_and_limits_are_configurable() {
    let site = site("");
    let keys = "[tftp]\nports = \"single\"\nblock_size = 1000\nwindow = 4\ntransfers_per_client = 2\n";
    edit_config(site.path(), &[("[tftp]\n", keys)]);
    let daemon = Daemon::start(site.path());
    let options = "blksize 1468 windowsize 16 ";
    let (first, oack, peer) = send_read_request(daemon.tftp, "boot.ipxe", options);
    assert_eq!(oack, b"\0\x06blksize\x001000\0windowsize\x004\0");
    assert_eq!(peer, daemon.tftp, "the listen port");
    let (second, oack, _) = send_read_request(daemon.tftp, "boot.ipxe", options);
    assert_eq!(oack[..2], [0, 6]);
    for client in [&first, &second] {
        client.send_to(&[0, 4, 0, 0], peer).expect("sends");
        assert_eq!(receive(client).0[..4], [0, 3, 0, 1]);
    }
    // Both transfers have answered: a third request gets no response, while the next packet gets one.
    let third = UdpSocket::bind("127.0.0.1:0").expect("binds");
    third.send_to(b"\0\x01boot.ipxe\0octet\0", peer).expect("sends");
    let (_other, response, _) = send_read_request(daemon.tftp, "missing", options);
    assert_eq!(response[..4], [0, 5, 0, 1]);
    third.set_nonblocking(true).expect("is set");
    assert!(third.recv(&mut [0; 16]).is_err());
    drop(daemon);

    edit_config(site.path(), &[("transfers_per_client", "transfers"), ("\"single\"", "\"42300-42399\"")]);
    let daemon = Daemon::start(site.path());
    // The unanswered transfers give way.
    for _ in 0..4 {
        let (_client, oack, peer) = send_read_request(daemon.tftp, "boot.ipxe", options);
        assert!(oack[..2] == [0, 6] && (42_300..=42_399).contains(&peer.port()), "{peer}");
    }
}

/// Other networks get an error that names the key.
#[test]
fn networks_of_tftp_are_those_of_http_or_its_own() {
    let site = site("");
    edit_config(site.path(), &[("[http]\n", "[http]\nallow = [\"192.0.2.0/24\"]\n")]);
    let daemon = Daemon::start(site.path());
    let (_, error, _) = send_read_request(daemon.tftp, "boot.ipxe", "");
    assert_eq!(error, b"\0\x05\0\x02Your network is not in [tftp] allow\0");
    drop(daemon);
    edit_config(site.path(), &[("[tftp]\n", "[tftp]\nallow = [\"127.0.0.0/8\"]\n")]);
    let daemon = Daemon::start(site.path());
    let (_, block, _) = send_read_request(daemon.tftp, "boot.ipxe", "");
    assert_eq!(block[..4], [0, 3, 0, 1]);
}

#[test]
fn each_listen_address_responds_from_itself() {
    let first_site = site("");
    edit_config(
        first_site.path(),
        &[(
            "[tftp]\nlisten = \"127.0.0.1:0\"",
            "[tftp]\nlisten = [\"127.0.0.2:0\", \"0.0.0.0:0\", \"[::1]:0\"]",
        )],
    );
    let daemon = Daemon::start(first_site.path());
    let [first, second, third] = daemon.tftp_addresses[..] else { panic!("{:?}", daemon.tftp_addresses) };
    for server in [first, SocketAddr::new([127, 0, 0, 3].into(), second.port()), third] {
        let (_, response, peer) = send_read_request(server, "boot.ipxe", "");
        assert_eq!((&response[..4], peer.ip()), (&[0, 3, 0, 1][..], server.ip()));
    }
    let listen_in_use = format!("[tftp]\nlisten = [\"127.0.0.1:0\", \"{first}\"]");
    let other = site("");
    edit_config(other.path(), &[("[tftp]\nlisten = \"127.0.0.1:0\"", &listen_in_use)]);
    let config = other.path().join("volboot.toml");
    let output = volboot(&["serve", "--config", config.to_str().expect("text")]).output().expect("runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && stderr.contains(&format!("cannot listen on {first} (tftp)")),
        "{stderr}"
    );
}

/// A server that reads or builds a file per request delays all other clients in a boot storm.
#[test]
fn files_are_served_from_memory() {
    let site = site("");
    let images = site.path().join("images");
    std::fs::create_dir(&images).expect("a directory");
    std::fs::write(images.join("undionly.kpxe"), "iPXE").expect("writes an image");
    edit_config(site.path(), &[("images = []", &format!("images = [\"{}\"]", images.display()))]);
    let daemon = Daemon::start(site.path());
    std::fs::remove_dir_all(&images).expect("removes the images");
    assert_eq!(tftp_get(daemon.tftp, "undionly.kpxe"), "iPXE");
}

/// The lines of the operator listener's stream of events, from now on.
fn subscribe(api: SocketAddr) -> impl Iterator<Item = String> {
    let mut stream = TcpStream::connect(api).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("a read time-out");
    write!(stream, "GET /v1/events HTTP/1.1\r\nHost: {api}\r\n\r\n").expect("sends the request");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    // The subscription exists before the header of the response is sent.
    assert_eq!(lines.next().as_deref(), Some("HTTP/1.1 200 OK"));
    lines
}

/// iPXE without HTTP gets a complete one, once. If the machine comes back, the binary lacks HTTP too: a second copy would
/// be loaded for ever.
#[test]
fn an_ipxe_that_lacks_a_feature_twice_gets_the_reason_instead_of_a_loop() {
    let site = site("");
    let images = site.path().join("images");
    std::fs::create_dir(&images).expect("a directory");
    std::fs::write(images.join("undionly.kpxe"), "iPXE").expect("writes an image");
    edit_config(site.path(), &[("images = []", &format!("images = [\"{}\"]", images.display()))]);
    let daemon = Daemon::start(site.path());
    let name = "without-http/undionly.kpxe";
    let mut updates = subscribe(daemon.api);
    let mut next_update = || updates.find(|line| line.contains(name)).expect("an update");

    // Firmware spells the name in many ways.
    for spelling in ["/without-http//undionly.kpxe", "\\without-http\\undionly.kpxe"] {
        assert_eq!(tftp_get(daemon.tftp, spelling), "iPXE");
        let update = next_update();
        assert!(update.contains("read without-http/undionly.kpxe over TFTP"), "{update}");
        let script = tftp_get(daemon.tftp, "without-http/./undionly.kpxe");
        assert!(script.starts_with("#!ipxe\necho volboot: this iPXE has no HTTP"), "{script}");
        assert!(script.ends_with("\nexit 1\n"), "{script}");
        let update = next_update();
        assert!(update.contains("stopped: this iPXE has no HTTP"), "{update}");
    }
    assert_eq!(tftp_get(daemon.tftp, "without-http/unknown.efi"), "No such file\0");
}
