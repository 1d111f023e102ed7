//! The doors' sockets: those that a service manager passed (sd_listen_fds(3)), and for the rest what the configuration
//! says.
//!
//! With sockets of its own making, systemd holds the ports while volboot is restarted, so that nobody is refused, and
//! volboot needs no capability for a port below 1024. A socket is known by its name: `tftp` (datagrams; several may be
//! passed), `http`, `api`.
//!
//! Invariant: what a configuration must not do by `listen` cannot be done by passing a socket either.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use listenfd::ListenFd;

use super::StartError;
use super::files;
use crate::config::{Auth, Config};
use crate::listen::Listener;
use crate::tftp;

/// What was passed, by the names of the doors.
#[derive(Debug, Default)]
pub struct Passed {
    tftp: Vec<UdpSocket>,
    http: Option<TcpListener>,
    api: Option<TcpListener>,
}

/// Sockets were passed that volboot can do nothing with.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// One has a name that is no door's, or that another has too.
    #[error("a socket was passed as '{0}': there may be tftp, one http and one api (FileDescriptorName=)")]
    Name(String),
    /// One is not of the kind that its door needs.
    #[error("the socket passed as '{name}' cannot be used")]
    Kind {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Passed {
    /// Takes what was passed to this process, if anything was. To be called once, while there is one thread only: the
    /// environment is cleared of it.
    pub fn take() -> Result<Self, PassedError> {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut passed = ListenFd::from_env();
        let mut names = names.split(':');
        let mut doors = Self::default();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let kind = |source| PassedError::Kind { name: name.clone(), source };
            match name.as_str() {
                "tftp" => doors.tftp.extend(passed.take_udp_socket(index).map_err(kind)?),
                "http" if doors.http.is_none() => {
                    doors.http = passed.take_tcp_listener(index).map_err(kind)?;
                }
                "api" if doors.api.is_none() => {
                    doors.api = passed.take_tcp_listener(index).map_err(kind)?;
                }
                _ => return Err(PassedError::Name(name)),
            }
        }
        Ok(doors)
    }
}

/// All doors' sockets, to be served.
pub(super) struct Sockets {
    pub(super) tftp: tftp::Listener,
    pub(super) http: Listener,
    pub(super) api: Listener,
}

impl Sockets {
    /// Takes what was passed, and binds the rest. Must be called within a runtime.
    pub(super) fn open(config: &Config, passed: Passed) -> Result<Self, StartError> {
        let tftp = if passed.tftp.is_empty() {
            tftp::Listener::bind(&files::door(&config.tftp))
        } else {
            tftp::Listener::adopt(passed.tftp, &files::door(&config.tftp))
        };
        let tftp = tftp.map_err(|tftp::BindError { address, source }| StartError::Bind {
            door: "tftp",
            address,
            source,
        })?;
        let http = open("http", config.http.listen, passed.http)?;
        let api = open("api", config.api.listen, passed.api)?;
        let open_to_all = config.api.auth == Auth::None && !config.api.allow_unauthenticated;
        if open_to_all && !api.local_addr().ip().to_canonical().is_loopback() {
            return Err(StartError::Unauthenticated(api.local_addr()));
        }
        Ok(Self { tftp, http, api })
    }
}

fn open(
    door: &'static str,
    address: SocketAddr,
    passed: Option<TcpListener>,
) -> Result<Listener, StartError> {
    let opened = match passed {
        Some(socket) => Listener::adopt(socket),
        None => Listener::bind(address),
    };
    opened.map_err(|source| StartError::Bind { door, address, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed_api(address: &str) -> Passed {
        let api = TcpListener::bind(address).expect("binds");
        Passed { api: Some(api), ..Passed::default() }
    }

    fn config(more: &str) -> Config {
        let text =
            format!("[tftp]\nlisten = \"127.0.0.1:0\"\n[http]\nlisten = \"127.0.0.1:0\"\n[api]\n{more}");
        Config::parse(&text).expect("is right")
    }

    #[tokio::test]
    async fn a_passed_socket_is_served_in_the_place_of_the_configured_one() {
        let passed = passed_api("127.0.0.1:0");
        let address = passed.api.as_ref().and_then(|api| api.local_addr().ok()).expect("an address");
        let sockets = Sockets::open(&config("listen = \"127.0.0.1:1\""), passed).expect("opens");
        assert_eq!(sockets.api.local_addr(), address);
    }

    #[tokio::test]
    async fn a_passed_socket_that_others_reach_needs_authentication_too() {
        let refused = Sockets::open(&config(""), passed_api("0.0.0.0:0"));
        assert!(matches!(refused, Err(StartError::Unauthenticated(_))));
        assert!(Sockets::open(&config("allow_unauthenticated = true"), passed_api("0.0.0.0:0")).is_ok());
    }

    #[tokio::test]
    async fn several_passed_sockets_serve_tftp_but_none_for_both_kinds_of_addresses() {
        let socket = |address: &str| UdpSocket::bind(address).expect("binds");
        let tftp = vec![socket("127.0.0.1:0"), socket("127.0.0.1:0")];
        let sockets = Sockets::open(&config(""), Passed { tftp, ..Passed::default() }).expect("opens");
        assert_eq!(sockets.tftp.local_addrs().len(), 2);
        let both = vec![socket("[::]:0")];
        let refused = Sockets::open(&config(""), Passed { tftp: both, ..Passed::default() });
        assert!(matches!(refused, Err(StartError::Bind { door: "tftp", .. })));
    }
}
