//! [`Netlink`]: requests to the kernel over one rtnetlink socket, opened at the first request.

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{Handle, new_connection};

/// An rtnetlink socket.
#[derive(Debug, Default)]
pub(super) struct Netlink(Mutex<Option<Handle>>);

impl Netlink {
    /// Sends a request, and returns the first response. `None` if the object does not exist.
    pub(super) async fn send(
        &self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, String> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST;
        let mut responses = self.handle()?.request(request).map_err(|error| error.to_string())?;
        match responses.next().await.map(|response| response.payload) {
            Some(NetlinkPayload::InnerMessage(response)) => Ok(Some(response)),
            Some(NetlinkPayload::Error(error)) => {
                let error = error.to_io();
                if error.kind() == std::io::ErrorKind::NotFound { Ok(None) } else { Err(error.to_string()) }
            }
            _ => Err("the kernel sent no response".into()),
        }
    }

    /// Requests a whole table, and passes each of its objects to `take`.
    pub(super) async fn dump(
        &self,
        message: RouteNetlinkMessage,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> Result<(), String> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut responses = self.handle()?.request(request).map_err(|error| error.to_string())?;
        while let Some(response) = responses.next().await {
            match response.payload {
                NetlinkPayload::InnerMessage(object) => take(object),
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(error.to_io().to_string());
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the open handle, or opens a socket.
    fn handle(&self) -> Result<Handle, String> {
        let mut open = self.0.lock();
        if let Some(handle) = &*open {
            return Ok(handle.clone());
        }
        let (connection, handle, _) = new_connection().map_err(|error| error.to_string())?;
        // The task ends when the last handle is dropped.
        tokio::spawn(connection);
        Ok(open.insert(handle).clone())
    }

    /// Closes the socket; the next request opens a new one.
    pub(super) fn reset(&self) {
        *self.0.lock() = None;
    }
}
