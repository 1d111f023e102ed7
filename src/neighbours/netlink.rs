//! [`Netlink`]: requests to the kernel over one rtnetlink socket, opened at the first request.

use std::io;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, new_connection};

/// Why the kernel's tables were not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetlinkError {
    /// The kernel has answered the request with an error: the socket works.
    #[error("{0}")]
    Kernel(io::Error),
    /// The socket failed, or the kernel sent no response.
    #[error("{0}")]
    Socket(String),
}

impl NetlinkError {
    /// Whether a response about a route says that no packet reaches the address: no route, or one of the types
    /// `unreachable`, `prohibit` and `blackhole`; or the source address is none of this host (Linux, `fib_props` and
    /// `ip_route_output_key_hash`).
    pub(super) fn is_no_route(&self) -> bool {
        let Self::Kernel(error) = self else { return false };
        matches!(
            error.kind(),
            io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::InvalidInput
        )
    }
}

/// An rtnetlink socket.
#[derive(Debug, Default)]
pub(super) struct Netlink(Mutex<Option<Handle>>);

impl Netlink {
    /// Sends a request, and returns the first response. `None` if the object does not exist.
    pub(super) async fn send(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        let mut responses = self.handle()?.request(request).map_err(socket_error)?;
        match responses.next().await.map(|response| response.payload) {
            Some(NetlinkPayload::InnerMessage(response)) => Ok(Some(response)),
            Some(NetlinkPayload::Error(error)) => {
                let error = error.to_io();
                if error.kind() == io::ErrorKind::NotFound {
                    Ok(None)
                } else {
                    Err(NetlinkError::Kernel(error))
                }
            }
            _ => Err(NetlinkError::Socket("the kernel sent no response".into())),
        }
    }

    /// Requests a whole table, and passes each of its objects to `take`.
    pub(super) async fn dump(
        &self,
        message: RouteNetlinkMessage,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut responses = self.handle()?.request(request).map_err(socket_error)?;
        while let Some(response) = responses.next().await {
            match response.payload {
                NetlinkPayload::InnerMessage(object) => take(object),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(NetlinkError::Kernel(error.to_io()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the open handle, or opens a socket.
    fn handle(&self) -> Result<Handle, NetlinkError> {
        let mut open = self.0.lock();
        if let Some(handle) = &*open {
            return Ok(handle.clone());
        }
        let (connection, handle, _) = new_connection().map_err(socket_error)?;
        // The task ends when the last handle is dropped.
        tokio::spawn(connection);
        Ok(open.insert(handle).clone())
    }

    /// Closes the socket; the next request opens a new one.
    pub(super) fn reset(&self) {
        *self.0.lock() = None;
    }
}

fn socket_error(error: impl std::fmt::Display) -> NetlinkError {
    NetlinkError::Socket(error.to_string())
}
