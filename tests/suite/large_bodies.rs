//! Large request bodies over real connections: memory, and the form of the refusal.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use crate::daemon::{Daemon, LIMIT, site};

const CLIENTS: usize = 12;
/// The length of a config drive.
const DRIVE: usize = 8 << 20;

const START: &str = r#"{"target": "active", "configdrive": ""#;
const END: &str = r#""}"#;

/// Sends the first half of a provision request with a config drive of this length.
fn send_half(api: SocketAddr, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(api).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("sets the time-out");
    stream.set_write_timeout(Some(LIMIT)).expect("sets the time-out");
    let head = format!(
        "PUT /v1/nodes/missing/states/provision HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         X-OpenStack-Ironic-API-Version: 1.33\r\nContent-Length: {}\r\n\r\n{START}",
        START.len() + length + END.len()
    );
    stream.write_all(head.as_bytes()).expect("sends");
    stream.write_all(&vec![b'A'; length / 2]).expect("sends");
    stream
}

/// Sends the other half, and reads the response: its head, and the fault.
fn complete(mut stream: TcpStream, length: usize) -> (String, Value) {
    // The server may have refused the request by now.
    let _ =
        stream.write_all(&vec![b'A'; length - length / 2]).and_then(|()| stream.write_all(END.as_bytes()));
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
    // The first request loads code and starts threads.
    complete(send_half(daemon.api, DRIVE), DRIVE);
    let before = daemon.peak_megabytes();
    let requests: Vec<_> = (0..CLIENTS).map(|_| send_half(daemon.api, DRIVE)).collect();
    for request in requests {
        let (head, fault) = complete(request, DRIVE);
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        assert_eq!(fault["faultstring"], "Node missing could not be found.");
    }
    let grown = daemon.peak_megabytes() - before;
    // Half of each drive arrived before the first was complete: 48 MiB. A connection buffers up to 400 KiB.
    assert!(grown < 16.0, "{CLIENTS} config drives of {} MiB take {grown} MB", DRIVE >> 20);
}

#[test]
fn a_body_above_the_limit_is_refused_in_ironics_form() {
    let site = site("");
    let daemon = Daemon::start(site.path());
    let (head, fault) = complete(send_half(daemon.api, 80 << 20), 80 << 20);
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_eq!(fault["faultstring"], "Request body is too large: the limit is 64 MiB.");
}
