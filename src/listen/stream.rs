//! [`TrackedStream`]: a TCP stream that knows whether a write is incomplete, and [`TrackedBody`]: a response that keeps
//! its connection busy until the end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connections::ActiveRequest;

/// A TCP stream that reports incomplete writes.
#[derive(Debug)]
pub(super) struct TrackedStream<S = TcpStream> {
    stream: S,
    is_writing: Arc<AtomicBool>,
}

impl<S: Unpin> TrackedStream<S> {
    pub(super) fn new(stream: S, is_writing: Arc<AtomicBool>) -> Self {
        Self { stream, is_writing }
    }

    /// Writes `length` bytes, and notes whether that is incomplete. It is so from before the system call: the client has the
    /// first bytes while the call still copies the rest, and may open its next connection.
    fn track(
        &mut self,
        length: usize,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.is_writing.store(true, Ordering::Relaxed);
        let result = write(Pin::new(&mut self.stream));
        let is_complete = matches!(result, Poll::Ready(Ok(written)) if written >= length);
        self.is_writing.store(!is_complete, Ordering::Relaxed);
        result
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(task, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.track(bytes.len(), |stream| stream.poll_write(task, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.track(length, |stream| stream.poll_write_vectored(task, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

/// A response body whose request is in progress until the body is sent or dropped.
pub(super) struct TrackedBody {
    body: Body,
    _request: ActiveRequest,
}

impl TrackedBody {
    pub(super) fn wrap(body: Body, request: ActiveRequest) -> Body {
        Body::new(Self { body, _request: request })
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Takes three bytes a call, and expects that the write is noted meanwhile.
    struct Probe(Arc<AtomicBool>);

    impl AsyncWrite for Probe {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            assert!(self.0.load(Ordering::Relaxed), "the write in progress is not noted");
            Poll::Ready(Ok(bytes.len().min(3)))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_write_is_noted_from_its_start_until_its_last_byte() {
        let is_writing = Arc::new(AtomicBool::new(false));
        let mut stream = TrackedStream::new(Probe(Arc::clone(&is_writing)), Arc::clone(&is_writing));
        assert_eq!(stream.write(b"12345").await.expect("writes"), 3);
        assert!(is_writing.load(Ordering::Relaxed), "two bytes are left");
        assert_eq!(stream.write(b"45").await.expect("writes"), 2);
        assert!(!is_writing.load(Ordering::Relaxed));
        let slices = [IoSlice::new(b"12"), IoSlice::new(b"3")];
        assert_eq!(stream.write_vectored(&slices).await.expect("writes"), 2);
        assert!(is_writing.load(Ordering::Relaxed), "one byte is left");
    }
}
