//! The boot listener: serves boot scripts and iPXE binaries to machines over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use super::error::{RunError, StartError};
use crate::config::HttpConfig;
use crate::listen::{ConnectionCounters, HttpLimits, Listener, PlainHttp, Tls};

/// The bound boot listener.
pub(super) struct BootListener {
    listener: Listener,
    limits: HttpLimits,
}

impl BootListener {
    /// Name of the listener, and of its passed socket.
    pub(super) const NAME: &str = "http";

    /// Adopts the `passed` socket; without one, binds the configured address. At most
    /// `connections` are open at a time.
    pub(super) fn open(
        config: &HttpConfig,
        passed: Option<TcpListener>,
        connections: usize,
    ) -> Result<Self, StartError> {
        let bind_error = |source| StartError::Bind { listener: Self::NAME, address: config.listen, source };
        let listener = Listener::open(config.listen, passed).map_err(bind_error)?;
        // Accepts plain HTTP beside TLS: only some builds of iPXE support TLS.
        let listener = listener.with_tls(Tls::new(None, PlainHttp::Allowed));
        let connections_per_client = config.connections_per_client as usize;
        let limits = HttpLimits { connections, connections_per_client, ..HttpLimits::default() };
        Ok(Self { listener, limits })
    }

    /// The bound address.
    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// The counts of connections.
    pub(super) fn counters(&self) -> Arc<ConnectionCounters> {
        self.listener.counters()
    }

    /// The TLS configuration, which takes the certificate.
    pub(super) fn tls(&self) -> Tls {
        self.listener.tls()
    }

    /// Serves `router` until `stop`, then drains running requests for at most `grace`.
    pub(super) async fn serve(
        self,
        router: Router,
        stop: CancellationToken,
        grace: Duration,
    ) -> Result<(), RunError> {
        self.listener.serve(router, self.limits, stop, grace).await;
        Ok(())
    }
}
