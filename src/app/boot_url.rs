//! [`BootUrl`]: the base URL of the boot listener, for machines that did not use it yet.

use std::net::{IpAddr, SocketAddr};

/// The base URL of the boot listener.
#[derive(Debug, Clone)]
pub(super) struct BootUrl {
    /// The configured URL.
    url: Option<String>,
    /// The bound address of the boot listener.
    listener: SocketAddr,
}

impl BootUrl {
    pub(super) fn new(url: Option<String>, listener: SocketAddr) -> Self {
        Self { url, listener }
    }

    /// The URL with a slash at the end, for a machine that used the server's address `local_ip`.
    pub(super) fn build(&self, local_ip: Option<IpAddr>) -> Option<String> {
        if let Some(url) = &self.url {
            return Some(format!("{url}/"));
        }
        let bound_ip = Some(self.listener.ip()).filter(|ip| !ip.is_unspecified());
        Some(format!("http://{}/", SocketAddr::new(bound_ip.or(local_ip)?, self.listener.port())))
    }
}
