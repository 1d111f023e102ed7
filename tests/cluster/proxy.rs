//! [`Proxy`]: TCP connections that a test cuts, delays, or stops after a certain record was written; and a request that it
//! holds back.
//!
//! A member of etcd reads requests as HTTP/2, whose bodies are not compressed: the JSON of a written record is visible.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::held_request::HeldRequest;

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Bytes pass, each direction after this delay.
    Up(Duration),
    /// Bytes wait in both directions, as behind a cable that is out.
    Silent,
    /// Requests pass, responses wait.
    OneWay,
    /// Connections are closed, and new ones too.
    Closed,
}

/// The order to stop after a write.
#[derive(Debug, Default)]
struct WriteWatch {
    /// A text of the written record, and the writes until the stop.
    order: Option<(Vec<u8>, usize)>,
    /// The end of the requests so far, as long as the text.
    tail: Vec<u8>,
}

/// The order to hold a request back.
#[derive(Debug, Default)]
enum Hold {
    #[default]
    Nothing,
    /// The first one with this text.
    With(Vec<u8>),
    Held(HeldRequest),
}

#[derive(Debug)]
struct ProxyState {
    link: watch::Sender<Link>,
    upstream: Mutex<SocketAddr>,
    writes: Mutex<WriteWatch>,
    hold: Mutex<Hold>,
}

/// A listener, or several, with one state. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Proxy(Arc<ProxyState>);

impl Proxy {
    /// Listens on loopback; returns the address. All connections go to `upstream`.
    pub(crate) async fn start(upstream: SocketAddr) -> (Self, SocketAddr) {
        let state = ProxyState {
            link: watch::Sender::new(Link::Up(Duration::ZERO)),
            upstream: Mutex::new(upstream),
            writes: Mutex::default(),
            hold: Mutex::default(),
        };
        let proxy = Self(Arc::new(state));
        let address = proxy.listen(None).await;
        (proxy, address)
    }

    /// A proxy with one listener per upstream; returns their addresses.
    pub(crate) async fn start_for_all(upstreams: &[SocketAddr]) -> (Self, Vec<SocketAddr>) {
        let (proxy, _) = Self::start(upstreams[0]).await;
        let mut addresses = Vec::new();
        for upstream in upstreams {
            addresses.push(proxy.listen(Some(*upstream)).await);
        }
        (proxy, addresses)
    }

    async fn listen(&self, upstream: Option<SocketAddr>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("is bound");
        let proxy = self.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if proxy.link() == Link::Closed {
                    continue;
                }
                let upstream = upstream.unwrap_or_else(|| *proxy.0.upstream.lock());
                tokio::spawn(proxy.clone().serve(client, upstream));
            }
        });
        address
    }

    /// Directs new connections elsewhere.
    pub(crate) fn set_upstream(&self, upstream: SocketAddr) {
        *self.0.upstream.lock() = upstream;
    }

    pub(crate) fn set_link(&self, link: Link) {
        self.0.link.send_replace(link);
    }

    fn link(&self) -> Link {
        *self.0.link.borrow()
    }

    /// Lets the `count`-th request with this text through, and no response any more: [`Link::OneWay`].
    pub(crate) fn stop_after_write(&self, text: &str, count: usize) {
        self.0.writes.lock().order = Some((text.as_bytes().to_vec(), count));
    }

    /// Waits for the write of [`Proxy::stop_after_write`].
    pub(crate) async fn wait_for_write(&self) {
        let mut link = self.0.link.subscribe();
        link.wait_for(|link| *link == Link::OneWay).await.expect("the proxy exists");
    }

    /// Holds the first request with this text back, and closes its client's connection.
    pub(crate) fn hold_request(&self, text: &str) {
        *self.0.hold.lock() = Hold::With(text.as_bytes().to_vec());
    }

    /// The request of [`Proxy::hold_request`], if it has come.
    pub(crate) fn take_held(&self) -> Option<HeldRequest> {
        match std::mem::take(&mut *self.0.hold.lock()) {
            Hold::Held(request) => Some(request),
            Hold::Nothing | Hold::With(_) => None,
        }
    }

    fn is_to_hold(&self, bytes: &[u8]) -> bool {
        let hold = self.0.hold.lock();
        matches!(&*hold, Hold::With(text) if bytes.windows(text.len()).any(|window| window == text))
    }

    async fn serve(self, client: TcpStream, upstream: SocketAddr) {
        let Ok(server) = TcpStream::connect(upstream).await else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let mut link = self.0.link.subscribe();
        tokio::select! {
            () = self.pass(from_client, to_server, true) => {}
            () = self.pass(from_server, to_client, false) => {}
            _ = link.wait_for(|link| *link == Link::Closed) => {}
        }
    }

    async fn pass(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, is_request: bool) {
        let mut link = self.0.link.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let Ok(size @ 1..) = from.read(&mut buffer).await else { return };
            let passes = |link: &Link| match link {
                Link::Up(_) => true,
                Link::OneWay => is_request,
                Link::Silent | Link::Closed => false,
            };
            let Ok(now) = link.wait_for(passes).await.map(|link| *link) else { return };
            if is_request && self.is_to_hold(&buffer[..size]) {
                let held = HeldRequest { bytes: buffer[..size].to_vec(), server: to };
                *self.0.hold.lock() = Hold::Held(held);
                return;
            }
            if let Link::Up(delay) = now
                && !delay.is_zero()
            {
                sleep(delay).await;
            }
            if to.write_all(&buffer[..size]).await.is_err() {
                return;
            }
            if is_request && self.count_writes(&buffer[..size]) {
                self.set_link(Link::OneWay);
            }
        }
    }

    /// Counts the writes among these bytes. Returns whether the ordered one is among them.
    fn count_writes(&self, bytes: &[u8]) -> bool {
        let mut writes = self.0.writes.lock();
        let Some((text, left)) = writes.order.take() else { return false };
        let seen = [std::mem::take(&mut writes.tail).as_slice(), bytes].concat();
        let found = seen.windows(text.len()).filter(|window| *window == text).count();
        // The text may be cut in two, of which a part alone is no match.
        let keep = seen.len().min(text.len() - 1);
        writes.tail = seen[seen.len() - keep..].to_vec();
        if found >= left {
            return true;
        }
        writes.order = Some((text, left - found));
        false
    }
}
