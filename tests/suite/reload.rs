//! Reload: SIGHUP puts another configuration in the place of the one that holds, and drops nobody.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;

use crate::daemon::{Daemon, LIMIT, site};

/// A connection that is kept open between requests.
struct Kept(BufReader<TcpStream>);

impl Kept {
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(LIMIT)).expect("is set");
        Self(BufReader::new(stream))
    }

    fn get(&mut self, path: &str) -> (u16, String) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
    }

    /// The status and the body of one answer.
    fn ask(&mut self, request: &str) -> (u16, String) {
        self.0.get_mut().write_all(request.as_bytes()).expect("is sent");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).expect("is answered"), 0, "closed after {head:?}");
        }
        let head = head.to_ascii_lowercase();
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        let (_, length) = head.split_once("\r\ncontent-length: ").expect("a length");
        let length = length.split("\r\n").next().expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned())
    }
}

/// Reads a small file over TFTP: its one block, or the text of the error.
fn tftp(door: SocketAddr, name: &str) -> String {
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
fn rewrite(site: &Path, changes: &[(&str, &str)]) {
    let path = site.join("volboot.toml");
    let mut text = std::fs::read_to_string(&path).expect("text");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, to);
    }
    std::fs::write(path, text).expect("is written");
}

#[test]
fn what_can_change_changes_and_connections_stay() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    let mut machine = Kept::open(daemon.http);
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("exit 1"));
    assert_eq!(machine.get("/images/undionly.kpxe").0, 404, "of a directory that is not there yet");
    let url = format!("http://{}/", daemon.http);
    assert!(tftp(daemon.tftp, "boot.ipxe").contains(&url));

    std::fs::create_dir(site.path().join("images")).expect("is made");
    std::fs::write(site.path().join("images/undionly.kpxe"), "iPXE").expect("is written");
    rewrite(
        site.path(),
        &[
            ("images = []", &format!("images = [\"{}\"]", site.path().join("images").display())),
            ("[http]\n", "[boot]\nunknown = \"shell\"\n[http]\nurl = \"http://boot.example.org\"\n"),
        ],
    );
    daemon.hang_up();
    daemon.line("reloaded");
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("shell"));
    assert_eq!(machine.get("/images/undionly.kpxe"), (200, "iPXE".to_owned()));
    assert_eq!(tftp(daemon.tftp, "undionly.kpxe"), "iPXE");
    assert!(tftp(daemon.tftp, "boot.ipxe").contains(" http://boot.example.org/boot/"));

    rewrite(site.path(), &[("[http]\n", "[http]\nallow = [\"192.0.2.0/24\"]\n")]);
    daemon.hang_up();
    daemon.line("reloaded");
    assert!(machine.get("/boot/52-54-00-00-00-01").1.contains("in no network of [http] allow"));
    assert_eq!(machine.get("/healthz").0, 200);
    daemon.stop();
}

#[test]
fn people_get_the_storage_interfaces_that_hold_now() {
    let site = site("enabled_storage_interfaces = [\"noop\"]\n");
    let mut daemon = Daemon::start(site.path());
    let mut people = Kept::open(daemon.api);
    let body = r#"{"driver": "fake-hardware", "storage_interface": "external"}"#;
    let create = format!(
        "POST /v1/nodes HTTP/1.1\r\nHost: x\r\nX-OpenStack-Ironic-API-Version: 1.33\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(people.ask(&create).0, 400);
    rewrite(site.path(), &[("[\"noop\"]", "[\"noop\", \"external\"]")]);
    daemon.hang_up();
    daemon.line("reloaded");
    assert_eq!(people.ask(&create).0, 201);
    daemon.stop();
}

#[test]
fn a_bad_file_changes_nothing_and_all_its_faults_are_told() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    rewrite(
        site.path(),
        &[("[http]\n", "[boot]\nunknown = \"shell\"\ntires = 3\n[http]\nallow = \"everybody\"\n")],
    );
    daemon.hang_up();
    let line = daemon.line("not reloaded: the previous configuration holds");
    assert_eq!(line["level"], "ERROR");
    let error = line["error"].as_str().expect("text");
    assert!(error.contains("http.allow: expected a list of texts"), "{error}");
    assert!(error.contains("boot.tires: there is no such key; did you mean boot.tries?"), "{error}");
    assert!(Kept::open(daemon.http).get("/boot/52-54-00-00-00-01").1.contains("exit 1"));

    std::fs::remove_file(site.path().join("volboot.toml")).expect("is removed");
    daemon.hang_up();
    let line = daemon.line("not reloaded: the previous configuration holds");
    assert_eq!(line["cause"], "No such file or directory (os error 2)");
    assert!(Kept::open(daemon.http).get("/boot/52-54-00-00-00-01").1.contains("exit 1"));
    daemon.stop();
}

/// Asks for a file and hears the answer.
fn ask(door: SocketAddr, name: &str, options: &str) -> (UdpSocket, Vec<u8>, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("binds");
    socket.set_read_timeout(Some(LIMIT)).expect("is set");
    let request = format!("\0\u{1}{name}\0octet\0{}", options.replace(' ', "\0"));
    socket.send_to(request.as_bytes(), door).expect("is sent");
    let (packet, peer) = hear(&socket);
    (socket, packet, peer)
}

fn hear(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut packet = vec![0; 2000];
    let (size, peer) = socket.recv_from(&mut packet).expect("is answered");
    packet.truncate(size);
    (packet, peer)
}

#[test]
fn a_running_transfer_keeps_its_image_while_others_get_the_new_one() {
    let site = site("");
    let images = site.path().join("images");
    std::fs::create_dir(&images).expect("is made");
    std::fs::write(images.join("undionly.kpxe"), vec![b'a'; 1000]).expect("is written");
    let images_key = format!("images = [\"{}\"]", images.display());
    rewrite(site.path(), &[("images = []", &images_key)]);
    let mut daemon = Daemon::start(site.path());
    let (socket, first, peer) = ask(daemon.tftp, "undionly.kpxe", "");
    assert_eq!(first, [&[0, 3, 0, 1], &[b'a'; 512][..]].concat());

    std::fs::write(images.join("undionly.kpxe"), "iPXE").expect("is written");
    daemon.hang_up();
    daemon.line("reloaded");
    assert_eq!(tftp(daemon.tftp, "undionly.kpxe"), "iPXE");
    socket.send_to(&[0, 4, 0, 1], peer).expect("is sent");
    // Block 1 may come a second time, if the reload took longer than the wait for its ACK.
    let last = std::iter::repeat_with(|| hear(&socket).0).find(|packet| packet[3] == 2).expect("block 2");
    assert_eq!(last, [&[0, 3, 0, 2], &[b'a'; 488][..]].concat());
    socket.send_to(&[0, 4, 0, 2], peer).expect("is sent");
    daemon.stop();
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
fn keys_that_need_a_restart_are_named() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    rewrite(
        site.path(),
        &[
            ("[tftp]\nlisten = \"127.0.0.1:0\"", "[tftp]\nlisten = \"127.0.0.1:69\""),
            ("store.redb", "other.redb"),
        ],
    );
    daemon.hang_up();
    for key in ["store.path", "tftp.listen"] {
        let line = daemon.line("changed in the configuration, but takes effect when volboot is restarted");
        assert_eq!(line["key"], key);
    }
    daemon.line("reloaded");
    assert!(tftp(daemon.tftp, "boot.ipxe").starts_with("#!ipxe"), "where it was");
    assert!(!site.path().join("other.redb").exists());
    daemon.stop();
}
