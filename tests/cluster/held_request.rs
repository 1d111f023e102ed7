//! [`HeldRequest`]: a request that a proxy holds back, as a suspended member of etcd does, while its sender gives up and
//! repeats it elsewhere.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::timeout;

/// How long a member may take to answer.
const ANSWERED: Duration = Duration::from_secs(20);
/// The bytes of a frame's head in HTTP/2: length, type, flags, stream.
const HEAD: usize = 9;
/// The type of a frame with headers.
const HEADERS: u8 = 1;
/// The flag of a stream's last frame.
const END_STREAM: u8 = 1;

/// The end of a request, and the connection on which its beginning has been sent.
#[derive(Debug)]
pub(crate) struct HeldRequest {
    pub(super) bytes: Vec<u8>,
    pub(super) server: OwnedWriteHalf,
}

impl HeldRequest {
    /// Lets the request arrive; returns once the member has answered it.
    pub(crate) async fn deliver(mut self) {
        self.server.write_all(&self.bytes).await.expect("the member has kept the connection");
        let mut received = Vec::new();
        let answered = async {
            while !has_answer(&received) {
                self.read(&mut received).await;
            }
        };
        timeout(ANSWERED, answered).await.expect("the member answers the late request");
    }

    async fn read(&self, received: &mut Vec<u8>) {
        let stream: &tokio::net::TcpStream = self.server.as_ref();
        stream.readable().await.expect("is connected");
        let mut buffer = [0; 4096];
        match stream.try_read(&mut buffer) {
            Ok(size @ 1..) => received.extend_from_slice(&buffer[..size]),
            Ok(0) => panic!("the member has closed the connection"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
}

/// Whether these frames have the end of a response.
fn has_answer(mut frames: &[u8]) -> bool {
    while let [a, b, c, kind, flags, ..] = *frames {
        if kind == HEADERS && flags & END_STREAM != 0 {
            return true;
        }
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(rest) = frames.get(HEAD + length..) else { return false };
        frames = rest;
    }
    false
}
