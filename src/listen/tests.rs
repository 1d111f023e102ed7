//! The limits and time-outs of the accept loop.

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const SOON: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(20);

async fn panic_handler() {
    panic!("on purpose")
}

/// Starts a listener with a large file, a slow route and a route that panics.
fn start(limits: HttpLimits) -> (SocketAddr, CancellationToken) {
    let router = Router::new()
        .route("/large", get(|| async { vec![0u8; 64 << 20] }))
        .route("/slow", get(|| async { tokio::time::sleep(LIMIT).await }))
        .route("/panic", get(panic_handler))
        .route("/", get(|| async { "ok" }));
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
    let (address, stop) = (listener.local_addr(), CancellationToken::new());
    tokio::spawn(listener.serve(router, limits, stop.clone(), SOON));
    (address, stop)
}

async fn connect(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("sends");
    stream
}

/// Reads until the connection is closed.
async fn read_to_end(mut stream: TcpStream) -> String {
    let mut response = Vec::new();
    // A reset closes the connection too.
    let _ = timeout(LIMIT, stream.read_to_end(&mut response)).await.expect("closes in time");
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn connection_beyond_the_limit_waits_for_a_free_place() {
    let (address, _stop) = start(HttpLimits { connections: 1, headers: SOON, ..HttpLimits::default() });
    let idle = connect(address, "").await;
    let response = read_to_end(connect(address, "GET / HTTP/1.0\r\n\r\n").await).await;
    assert!(response.ends_with("ok"), "{response}");
    drop(idle);
}

#[tokio::test]
async fn client_that_does_not_read_is_disconnected() {
    let (address, _stop) = start(HttpLimits { connections: 1, write: SOON, ..HttpLimits::default() });
    let stalled = connect(address, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
    // Its permit is free again although the client is still connected.
    let response = read_to_end(connect(address, "GET / HTTP/1.0\r\n\r\n").await).await;
    assert!(response.ends_with("ok"), "{response}");
    drop(stalled);
}

#[tokio::test]
async fn request_timeout_is_answered_with_408() {
    let (address, _stop) = start(HttpLimits { request: SOON, ..HttpLimits::default() });
    let response = read_to_end(connect(address, "GET /slow HTTP/1.0\r\n\r\n").await).await;
    assert!(response.starts_with("HTTP/1.0 408 "), "{response}");
}

#[tokio::test]
async fn request_sent_before_the_stop_is_answered() {
    let (address, stop) = start(HttpLimits::default());
    let mut stream = connect(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut response = [0; 1024];
    let read = timeout(LIMIT, stream.read(&mut response)).await.expect("in time").expect("responds");
    assert!(response[..read].ends_with(b"ok"));
    // The listener cannot read the request between these two calls.
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sends");
    stop.cancel();
    let response = read_to_end(stream).await;
    assert!(response.ends_with("ok"), "{response}");
}

/// One client sends nothing, the other begins a handshake and stops.
#[tokio::test]
async fn handshake_timeout_closes_the_connection() {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("generates");
    let files = tempfile::tempdir().expect("creates a directory");
    let (certificate, key) = (files.path().join("certificate"), files.path().join("key"));
    std::fs::write(&certificate, issued.cert.pem()).expect("writes");
    std::fs::write(&key, issued.signing_key.serialize_pem()).expect("writes");
    let certificate = Certificate::read_blocking(&certificate, &key).expect("is valid");

    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
    let listener = listener.with_tls(Tls::new(Some(certificate), PlainHttp::Refused));
    let address = listener.local_addr();
    let limits = HttpLimits { handshake: SOON, ..HttpLimits::default() };
    tokio::spawn(listener.serve(Router::new(), limits, CancellationToken::new(), SOON));
    for beginning in ["", "\u{16}\u{3}\u{1}"] {
        assert_eq!(read_to_end(connect(address, beginning).await).await, "", "{beginning:?}");
    }
}

#[tokio::test]
async fn panic_fails_one_request_only() {
    let (address, _stop) = start(HttpLimits::default());
    let response = read_to_end(connect(address, "GET /panic HTTP/1.0\r\n\r\n").await).await;
    assert!(response.starts_with("HTTP/1.0 500 "), "{response}");
    assert!(read_to_end(connect(address, "GET / HTTP/1.0\r\n\r\n").await).await.ends_with("ok"));
}
