//! What is left of a request when it has been answered already: a body that nobody wanted.
//!
//! A client that may not ask is told so before its body was looked at, often before it has arrived. To close the
//! connection then, as hyper does, is to break the next request, which the client sends by a connection that it was
//! not told to give up (RFC 9112, section 9.6). So the body is read to its end and thrown away before the answer goes
//! out; if that takes too long the answer says that the connection ends with it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

/// Where a body is put by whoever reads no more of it, and whether any of it was asked for.
type Place = Arc<Mutex<Option<(Incoming, bool)>>>;

/// The body of one request, as long as its answer is not sent.
pub(super) struct Remainder {
    /// None if there was no body to begin with.
    place: Option<Place>,
    /// The client sends its body when it is asked to, which reading it would do.
    waits: bool,
}

impl Remainder {
    /// The request with a body whose rest comes back.
    pub(super) fn of(request: Request<Incoming>) -> (Request<Body>, Self) {
        let waits = request.headers().contains_key(EXPECT);
        let (head, body) = request.into_parts();
        if body.is_end_stream() {
            return (Request::from_parts(head, Body::empty()), Self { place: None, waits });
        }
        let place = Place::default();
        let lent = Lent { body: Some(body), asked: false, place: Arc::clone(&place) };
        (Request::from_parts(head, Body::new(lent)), Self { place: Some(place), waits })
    }

    /// Reads what is left, for at most `limit`; if it does not come to its end, `answer` is the connection's last.
    pub(super) async fn read(self, limit: Duration, answer: &mut Response<Body>) {
        let Some((mut body, asked)) = self.place.and_then(|place| take(&place)) else { return };
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        if self.waits && !asked || tokio::time::timeout(limit, rest).await.is_err() {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

fn take(place: &Place) -> Option<(Incoming, bool)> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A body that goes back to its place if it is dropped before its end.
struct Lent {
    body: Option<Incoming>,
    asked: bool,
    place: Place,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.asked = true;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(task);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let rest = self.body.take().filter(|body| !body.is_end_stream()).map(|body| (body, self.asked));
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = rest;
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

    use super::super::{Limits, Listener};
    use super::*;

    const SOON: Duration = Duration::from_millis(100);
    const LIMIT: Duration = Duration::from_secs(20);

    /// A door that refuses whoever posts, without looking at the body, and says each time that it did.
    fn serve(remainder: Duration) -> (SocketAddr, UnboundedReceiver<()>) {
        let (refused, refusals) = unbounded_channel();
        let refuse = async move || {
            let _ = refused.send(());
            StatusCode::UNAUTHORIZED
        };
        let router = Router::new().route("/", post(refuse)).route("/read", post(async |body: String| body));
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let address = listener.local_addr();
        let limits = Limits { remainder, body: 1000, ..Limits::default() };
        tokio::spawn(listener.serve(router, limits, CancellationToken::new(), SOON));
        (address, refusals)
    }

    /// What comes until `end`, or until the connection is closed.
    async fn until(stream: &mut TcpStream, end: &str) -> String {
        let mut answer = String::new();
        while !answer.ends_with(end) {
            let mut some = [0; 1024];
            let read = timeout(LIMIT, stream.read(&mut some)).await.expect("in time").unwrap_or(0);
            if read == 0 {
                break;
            }
            answer.push_str(&String::from_utf8_lossy(&some[..read]));
        }
        answer
    }

    #[tokio::test]
    async fn a_body_that_comes_after_its_answer_was_made_does_not_end_the_connection() {
        let (address, mut refusals) = serve(LIMIT);
        let mut stream = TcpStream::connect(address).await.expect("connects");
        for _ in 0..2 {
            stream
                .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
                .await
                .expect("is sent");
            timeout(LIMIT, refusals.recv()).await.expect("is answered").expect("is served");
            stream.write_all(b"body").await.expect("is sent");
            let answer = until(&mut stream, "\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 401 ") && !answer.contains("close"), "{answer}");
        }
        // The same with a body in chunks; and one that is wanted comes whole.
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n")
            .await
            .expect("is sent");
        timeout(LIMIT, refusals.recv()).await.expect("is answered").expect("is served");
        stream.write_all(b"body\r\n0\r\n\r\n").await.expect("is sent");
        assert!(until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 401 "));
        stream
            .write_all(b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
            .await
            .expect("is sent");
        stream.write_all(b"dy").await.expect("is sent");
        assert!(until(&mut stream, "body").await.ends_with("\r\n\r\nbody"));
    }

    #[tokio::test]
    async fn where_the_body_does_not_come_the_answer_says_that_the_connection_ends() {
        let (address, _refusals) = serve(SOON);
        let waits = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
        for request in ["POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbod", waits] {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(request.as_bytes()).await.expect("is sent");
            let answer = until(&mut stream, "never").await;
            assert!(
                answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close\r\n"),
                "{answer}"
            );
        }
    }

    /// More than the kernel's buffers take, so that it is not sent before somebody reads it.
    #[tokio::test]
    async fn who_sends_too_much_is_told_so_and_may_ask_again() {
        let (address, _refusals) = serve(LIMIT);
        let mut stream = TcpStream::connect(address).await.expect("connects");
        for path in ["/read", "/"] {
            let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 32 << 20);
            stream.write_all(head.as_bytes()).await.expect("is sent");
            let sent = timeout(LIMIT, stream.write_all(&vec![0; 32 << 20])).await.expect("in time");
            sent.expect("is sent to its end");
            let answer = until(&mut stream, "length limit exceeded").await;
            assert!(answer.starts_with("HTTP/1.1 413 ") && !answer.contains("close"), "{answer}");
        }
    }
}
