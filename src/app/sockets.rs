//! Socket activation: takes the sockets that the service manager passed (sd_listen_fds(3)).
//!
//! With passed sockets, systemd keeps the ports open while volboot restarts, so that no connection is refused. And
//! volboot needs no capability for ports below 1024. A socket's name selects its listener: `dhcp` and `tftp` (datagram
//! sockets, one or more), `http`, `api`.

use std::io;
use std::net::{TcpListener, UdpSocket};

use listenfd::ListenFd;

use super::boot::BootListener;
use super::dhcp::DhcpListener;
use super::operator::OperatorListener;
use super::tftp::TftpListener;

/// The passed sockets, by listener.
#[derive(Debug, Default)]
pub struct PassedSockets {
    pub(super) dhcp: Vec<UdpSocket>,
    pub(super) tftp: Vec<UdpSocket>,
    pub(super) http: Option<TcpListener>,
    pub(super) api: Option<TcpListener>,
}

/// A passed socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedSocketError {
    /// The name belongs to no listener, or is a duplicate.
    #[error(
        "unexpected passed socket '{0}': expected dhcp, tftp, one http and one api (FileDescriptorName=)"
    )]
    Name(String),
    /// The socket has the wrong type for its listener.
    #[error("cannot use the passed socket '{name}'")]
    Type {
        /// The socket's name.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl PassedSockets {
    /// Takes the sockets that were passed to this process. Call it once, before any other thread starts: it changes
    /// the environment.
    pub fn take() -> Result<Self, PassedSocketError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut descriptors = ListenFd::from_env();
        let mut names = names.split(':');
        let mut sockets = Self::default();
        for index in 0..descriptors.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let type_error = |source| PassedSocketError::Type { name: name.clone(), source };
            match name.as_str() {
                DhcpListener::NAME => {
                    sockets.dhcp.extend(descriptors.take_udp_socket(index).map_err(type_error)?);
                }
                TftpListener::NAME => {
                    sockets.tftp.extend(descriptors.take_udp_socket(index).map_err(type_error)?);
                }
                BootListener::NAME if sockets.http.is_none() => {
                    sockets.http = descriptors.take_tcp_listener(index).map_err(type_error)?;
                }
                OperatorListener::NAME if sockets.api.is_none() => {
                    sockets.api = descriptors.take_tcp_listener(index).map_err(type_error)?;
                }
                _ => return Err(PassedSocketError::Name(name)),
            }
        }
        Ok(sockets)
    }
}
