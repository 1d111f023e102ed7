//! Drains an unread request body before the response is sent, so that the connection stays usable.
//!
//! An early rejection leaves the body unread, often before it has arrived. hyper then closes the connection without
//! `Connection: close`, and the client's next request on it fails (RFC 9112, section 9.6). [`BodyDrain`] reads and
//! discards the rest of the body first. If that takes too long, the response says `Connection: close`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use parking_lot::Mutex;

/// Receives the body when the handler drops it early, and whether the handler has polled it.
type Slot = Arc<Mutex<Option<(Incoming, bool)>>>;

/// Takes back and drains the body of one request.
pub(super) struct BodyDrain {
    /// `None` if the request has no body.
    slot: Option<Slot>,
    /// The client sent `Expect: 100-continue`: it sends the body only once the body is polled.
    expects_continue: bool,
}

impl BodyDrain {
    /// Wraps the body of a request.
    pub(super) fn wrap(request: Request<Incoming>) -> (Request<Body>, Self) {
        let expects_continue = request.headers().contains_key(EXPECT);
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            return (Request::from_parts(head, Body::empty()), Self { slot: None, expects_continue });
        }
        let slot = Slot::default();
        let body = ReturnableBody { body: Some(body), polled: false, slot: Arc::clone(&slot) };
        (Request::from_parts(head, Body::new(body)), Self { slot: Some(slot), expects_continue })
    }

    /// Reads the rest of the body, for at most `limit`. If its end does not arrive, `response` closes the connection.
    pub(super) async fn drain(self, limit: Duration, response: &mut Response<Body>) {
        let Some((mut body, polled)) = self.slot.and_then(|slot| take_body(&slot)) else { return };
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        if self.expects_continue && !polled || tokio::time::timeout(limit, rest).await.is_err() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

fn take_body(slot: &Slot) -> Option<(Incoming, bool)> {
    slot.lock().take()
}

/// A request body that returns to its slot when the handler drops it early.
struct ReturnableBody {
    body: Option<Incoming>,
    polled: bool,
    slot: Slot,
}

impl HttpBody for ReturnableBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.polled = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(task);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for ReturnableBody {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream()).map(|body| (body, self.polled));
        *self.slot.lock() = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::time::timeout;
    use tokio_util::sync::CancellationToken;

    use super::super::{HttpLimits, Listener};
    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LIMIT: Duration = Duration::from_secs(20);

    /// Starts a listener that rejects a POST to `/` without reading the body, and reports each rejection.
    fn start(body_drain: Duration) -> (SocketAddr, UnboundedReceiver<()>) {
        let (refused, refusals) = unbounded_channel();
        let refuse = async move || {
            let _ = refused.send(());
            StatusCode::UNAUTHORIZED
        };
        let router = Router::new().route("/", post(refuse)).route("/read", post(async |body: String| body));
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let address = listener.local_addr();
        let limits = HttpLimits { body_drain, body: 1000, ..HttpLimits::default() };
        tokio::spawn(listener.serve(router, limits, CancellationToken::new(), SOON));
        (address, refusals)
    }

    /// Reads until `end`, or until the connection is closed.
    async fn read_until(stream: &mut TcpStream, end: &str) -> String {
        let mut response = String::new();
        while !response.ends_with(end) {
            let mut buffer = [0; 1024];
            let read = timeout(LIMIT, stream.read(&mut buffer)).await.expect("in time").unwrap_or(0);
            if read == 0 {
                break;
            }
            response.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        response
    }

    #[tokio::test]
    async fn body_that_arrives_after_the_rejection_keeps_the_connection_open() {
        let (address, mut refusals) = start(LIMIT);
        let mut stream = TcpStream::connect(address).await.expect("connects");
        for _ in 0..2 {
            stream
                .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
                .await
                .expect("sends");
            timeout(LIMIT, refusals.recv()).await.expect("in time").expect("rejects");
            stream.write_all(b"body").await.expect("sends");
            let response = read_until(&mut stream, "\r\n\r\n").await;
            assert!(response.starts_with("HTTP/1.1 401 ") && !response.contains("close"), "{response}");
        }
        // The same with a chunked body; a body that the handler reads arrives complete.
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n")
            .await
            .expect("sends");
        timeout(LIMIT, refusals.recv()).await.expect("in time").expect("rejects");
        stream.write_all(b"body\r\n0\r\n\r\n").await.expect("sends");
        assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 401 "));
        stream
            .write_all(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
            .await
            .expect("sends");
        stream.write_all(b"dy").await.expect("sends");
        assert!(read_until(&mut stream, "body").await.ends_with("\r\n\r\nbody"));
    }

    #[tokio::test]
    async fn missing_body_closes_the_connection() {
        let (address, _refusals) = start(SOON);
        let expects_continue =
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        for request in ["POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbod", expects_continue] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(request.as_bytes()).await.expect("sends");
            let response = read_until(&mut stream, "never").await;
            assert!(
                response.starts_with("HTTP/1.1 401 ") && response.contains("connection: close\r\n"),
                "{response}"
            );
        }
    }

    /// The body exceeds the buffers of the kernel, so sending it completes only if the listener reads it.
    #[tokio::test]
    async fn too_large_body_is_rejected_and_keeps_the_connection_open() {
        let (address, _refusals) = start(LIMIT);
        let mut stream = TcpStream::connect(address).await.expect("connects");
        for path in ["/read", "/"] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 32 << 20);
            stream.write_all(head.as_bytes()).await.expect("sends");
            let sent = timeout(LIMIT, stream.write_all(&vec![0; 32 << 20])).await.expect("in time");
            sent.expect("sends the whole body");
            let response = read_until(&mut stream, "length limit exceeded").await;
            assert!(response.starts_with("HTTP/1.1 413 ") && !response.contains("close"), "{response}");
        }
    }
}
