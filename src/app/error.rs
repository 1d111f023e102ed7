//! Errors that prevent volboot from starting, or stop it.

use std::io;
use std::net::SocketAddr;

use super::files::ConfiguredFileError;
use crate::auth::HtpasswdError;
use crate::cluster::PeerClientError;
use crate::store::{OpenError, StoreError};

/// volboot cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// This volboot was built without etcd.
    #[error("this volboot was built without etcd")]
    NoEtcd,
    /// The password file cannot be read.
    #[error(transparent)]
    Passwords(#[from] HtpasswdError),
    /// The CA bundle for the other instances cannot be used.
    #[error(transparent)]
    Cluster(#[from] PeerClientError),
    /// Another configured file cannot be used.
    #[error(transparent)]
    File(#[from] ConfiguredFileError),
    /// The system has no random numbers.
    #[error("cannot create a secret")]
    Random(#[source] StoreError),
    /// The service manager passed a non-loopback API socket, but authentication is off.
    #[error(
        "the API without authentication may listen on loopback only, but the socket passed as 'api' is {0}; \
         set [api] allow_unauthenticated = true to give every client full access"
    )]
    Unauthenticated(SocketAddr),
    /// The process may open too few files.
    #[error(
        "the limit of open files is {limit}, and volboot needs {minimum} at least: set LimitNOFILE=8192 in a drop-in of \
         the service, or `ulimit -n 8192`"
    )]
    Descriptors {
        /// The limit.
        limit: u64,
        /// The least sufficient one.
        minimum: u64,
    },
    /// A socket cannot be bound.
    #[error("cannot listen on {address} ({listener})")]
    Bind {
        /// The listener: `dhcp`, `tftp`, `http`, `api` or `cluster`.
        listener: &'static str,
        /// The address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// volboot failed while serving.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The ProxyDHCP server failed.
    #[error("the ProxyDHCP server failed")]
    Dhcp(#[source] io::Error),
    /// The TFTP server failed.
    #[error("the TFTP server failed")]
    Tftp(#[source] io::Error),
    /// A listener or the reconciler exited unexpectedly or panicked.
    #[error("{0}")]
    Task(String),
    /// The store failed and must be reopened.
    #[error(transparent)]
    Store(#[from] StoreError),
}
