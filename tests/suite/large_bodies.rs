//! Large request bodies over real connections: memory, and the form of the refusal.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Barrier};

use serde_json::Value;

use crate::daemon::{Daemon, LIMIT, site};

const CLIENTS: usize = 12;
/// The length of a config drive, above the process's memory for all clients together.
const DRIVE: usize = 8 << 20;

/// Sends a provision request with a config drive of this length, in two halves. `pause` is called between them.
fn send_drive(api: SocketAddr, length: usize, pause: impl FnOnce()) -> (String, Value) {
    let (start, end) = (r#"{"target": "active", "configdrive": ""#, r#""}"#);
    let mut stream = TcpStream::connect(api).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("sets the time-out");
    stream.set_write_timeout(Some(LIMIT)).expect("sets the time-out");
    let head = format!(
        "PUT /v1/nodes/missing/states/provision HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         X-OpenStack-Ironic-API-Version: 1.33\r\nContent-Length: {}\r\n\r\n{start}",
        start.len() + length + end.len()
    );
    let half = vec![b'A'; length / 2];
    stream.write_all(head.as_bytes()).expect("sends");
    stream.write_all(&half).expect("sends");
    pause();
    // The server may have refused the request by now.
    let _ = stream.write_all(&half).and_then(|()| stream.write_all(end.as_bytes()));
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("responds");
    let (head, body) = response.split_once("\r\n\r\n").expect("a response");
    let body: Value = serde_json::from_str(body).expect("JSON");
    let fault = body["error_message"].as_str().expect("JSON within JSON");
    (head.to_owned(), serde_json::from_str(fault).expect("JSON within JSON"))
}

#[test]
fn config_drives_of_many_clients_take_no_memory() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let api = daemon.api;
    // The first request of each kind loads code and starts threads.
    send_drive(api, DRIVE, || ());
    let before = daemon.peak_megabytes();
    let barrier = Arc::new(Barrier::new(CLIENTS));
    let client = || {
        let barrier = Arc::clone(&barrier);
        std::thread::spawn(move || send_drive(api, DRIVE, || drop(barrier.wait())))
    };
    let clients: Vec<_> = (0..CLIENTS).map(|_| client()).collect();
    for client in clients {
        let (head, fault) = client.join().expect("the client ends");
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        assert_eq!(fault["faultstring"], "Node missing could not be found.");
    }
    let grown = daemon.peak_megabytes() - before;
    // Half of all drives arrived before the first was complete: 48 MiB. A connection buffers up to 400 KiB.
    assert!(grown < 16.0, "{CLIENTS} config drives of {} MiB take {grown} MB", DRIVE >> 20);
}

#[test]
fn a_body_above_the_limit_is_refused_in_ironics_form() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let (head, fault) = send_drive(daemon.api, 80 << 20, || ());
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(fault["faultstring"], "Request body is too large: the limit is 64 MiB.");
}
