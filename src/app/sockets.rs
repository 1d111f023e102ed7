//! Socket activation: takes the sockets that the service manager passed (sd_listen_fds(3)), and binds the others by
//! the configuration.
//!
//! With passed sockets, systemd keeps the ports open while volboot restarts, so that no connection is refused. And
//! volboot needs no capability for ports below 1024. A socket's name selects its listener: `tftp` (datagram sockets,
//! one or more), `http`, `api`.
//!
//! Invariant: the limits on `listen` in the configuration hold for passed sockets too.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use listenfd::ListenFd;

use super::StartError;
use super::files;
use crate::config::{AuthStrategy, Config};
use crate::listen::Listener;
use crate::tftp;

/// The passed sockets, by listener.
#[derive(Debug, Default)]
pub struct PassedSockets {
    tftp: Vec<UdpSocket>,
    http: Option<TcpListener>,
    api: Option<TcpListener>,
}

/// A passed socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PassedSocketError {
    /// The name belongs to no listener, or is a duplicate.
    #[error("unexpected passed socket '{0}': expected tftp, one http and one api (FileDescriptorName=)")]
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
                "tftp" => sockets.tftp.extend(descriptors.take_udp_socket(index).map_err(type_error)?),
                "http" if sockets.http.is_none() => {
                    sockets.http = descriptors.take_tcp_listener(index).map_err(type_error)?;
                }
                "api" if sockets.api.is_none() => {
                    sockets.api = descriptors.take_tcp_listener(index).map_err(type_error)?;
                }
                _ => return Err(PassedSocketError::Name(name)),
            }
        }
        Ok(sockets)
    }
}

/// The sockets of all listeners.
pub(super) struct Sockets {
    pub(super) tftp: tftp::Server,
    pub(super) http: Listener,
    pub(super) api: Listener,
}

impl Sockets {
    /// Takes the passed sockets, and binds the others. Must be called within a runtime.
    pub(super) fn open(config: &Config, passed: PassedSockets) -> Result<Self, StartError> {
        let tftp = if passed.tftp.is_empty() {
            tftp::Server::bind(&files::server_config(&config.tftp))
        } else {
            tftp::Server::adopt(passed.tftp, &files::server_config(&config.tftp))
        };
        let tftp = tftp.map_err(|tftp::BindError { address, source }| StartError::Bind {
            listener: "tftp",
            address,
            source,
        })?;
        let http = open_listener("http", config.http.listen, passed.http)?;
        let api = open_listener("api", config.api.listen, passed.api)?;
        let is_unauthenticated = config.api.auth == AuthStrategy::None && !config.api.allow_unauthenticated;
        if is_unauthenticated && !api.local_addr().ip().to_canonical().is_loopback() {
            return Err(StartError::Unauthenticated(api.local_addr()));
        }
        Ok(Self { tftp, http, api })
    }
}

fn open_listener(
    listener: &'static str,
    address: SocketAddr,
    passed: Option<TcpListener>,
) -> Result<Listener, StartError> {
    let socket = match passed {
        Some(socket) => Listener::adopt(socket),
        None => Listener::bind(address),
    };
    socket.map_err(|source| StartError::Bind { listener, address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_api(address: &str) -> PassedSockets {
        let api = TcpListener::bind(address).expect("the socket binds");
        PassedSockets { api: Some(api), ..PassedSockets::default() }
    }

    fn config(api_keys: &str) -> Config {
        let text =
            format!("[tftp]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[api]\n{api_keys}");
        Config::parse(&text).expect("the configuration is valid")
    }

    #[tokio::test]
    async fn passed_socket_replaces_the_configured_address() {
        let passed = passed_api("127.0.0.1:0");
        let address = passed.api.as_ref().and_then(|api| api.local_addr().ok()).expect("an address");
        let sockets = Sockets::open(&config("listen = \"127.0.0.1:1\""), passed).expect("the sockets open");
        assert_eq!(sockets.api.local_addr(), address);
    }

    #[tokio::test]
    async fn passed_socket_beyond_loopback_needs_authentication() {
        let result = Sockets::open(&config(""), passed_api("0.0.0.0:0"));
        assert!(matches!(result, Err(StartError::Unauthenticated(_))));
        assert!(Sockets::open(&config("allow_unauthenticated = true"), passed_api("0.0.0.0:0")).is_ok());
    }

    #[tokio::test]
    async fn several_passed_tftp_sockets_but_no_dual_stack() {
        let socket = |address: &str| UdpSocket::bind(address).expect("the socket binds");
        let tftp = vec![socket("127.0.0.1:0"), socket("127.0.0.1:0")];
        let sockets = Sockets::open(&config(""), PassedSockets { tftp, ..PassedSockets::default() })
            .expect("the sockets open");
        assert_eq!(sockets.tftp.local_addrs().len(), 2);
        let dual_stack = vec![socket("[::]:0")];
        let result =
            Sockets::open(&config(""), PassedSockets { tftp: dual_stack, ..PassedSockets::default() });
        assert!(matches!(result, Err(StartError::Bind { listener: "tftp", .. })));
    }
}
