//! The operator listener: serves the API and the web pages.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use super::error::{RunError, StartError};
use crate::config::{ApiConfig, AuthStrategy};
use crate::listen::{ConnectionCounters, HttpLimits, Listener, PlainHttp, Tls};

/// The idle time-out of connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The bound operator listener.
pub(super) struct OperatorListener {
    listener: Listener,
    limits: HttpLimits,
}

impl OperatorListener {
    /// Name of the listener, and of its passed socket.
    pub(super) const NAME: &str = "api";

    /// Adopts the `passed` socket; without one, binds the configured address. Without authentication, both must be
    /// loopback addresses, unless the configuration permits others. At most `connections` are open at a time.
    pub(super) fn open(
        config: &ApiConfig,
        passed: Option<TcpListener>,
        connections: usize,
    ) -> Result<Self, StartError> {
        let bind_error = |source| StartError::Bind { listener: Self::NAME, address: config.listen, source };
        let listener = Listener::open(config.listen, passed).map_err(bind_error)?;
        let is_unauthenticated = config.auth == AuthStrategy::None && !config.allow_unauthenticated;
        if is_unauthenticated && !listener.local_addr().ip().to_canonical().is_loopback() {
            return Err(StartError::Unauthenticated(listener.local_addr()));
        }
        // Clients send passwords, so a certificate makes TLS mandatory.
        let listener = listener.with_tls(Tls::new(None, PlainHttp::Refused));
        let connections_per_client = config.connections_per_client as usize;
        Ok(Self { listener, limits: HttpLimits { connections, connections_per_client, ..limits() } })
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

fn limits() -> HttpLimits {
    HttpLimits {
        // The API limits each body by its path, and rejects longer ones in Ironic's error format. The pages have axum's
        // limit of 2 MiB.
        body: usize::MAX,
        // Clients that wait for a node poll every ten seconds over one connection. With a time-out of ten seconds the
        // server could close it just as the next request arrives.
        headers: IDLE_TIMEOUT,
        write: IDLE_TIMEOUT,
        ..HttpLimits::default()
    }
}
