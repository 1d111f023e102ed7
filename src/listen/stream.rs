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
pub(super) struct TrackedStream {
    stream: TcpStream,
    is_writing: Arc<AtomicBool>,
}

impl TrackedStream {
    pub(super) fn new(stream: TcpStream, is_writing: Arc<AtomicBool>) -> Self {
        Self { stream, is_writing }
    }

    /// Notes whether a write of `length` bytes was complete.
    fn note(&self, length: usize, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let is_complete = matches!(result, Poll::Ready(Ok(written)) if written >= length);
        self.is_writing.store(!is_complete, Ordering::Relaxed);
        result
    }
}

impl AsyncRead for TrackedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(task, buffer)
    }
}

impl AsyncWrite for TrackedStream {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.note(bytes.len(), result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(task, slices);
        self.note(slices.iter().map(|slice| slice.len()).sum(), result)
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
