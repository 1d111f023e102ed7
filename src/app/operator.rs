//! The operator listener: serves the API and the web pages.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use super::error::{RunError, StartError};
use crate::config::{ApiConfig, AuthStrategy};
use crate::listen::{HttpLimits, Listener, PlainHttp, Tls};

/// The idle time-out of connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The bound operator listener.
pub(super) struct OperatorListener(Listener);

impl OperatorListener {
    /// Name of the listener, and of its passed socket.
    pub(super) const NAME: &str = "api";

    /// Adopts the `passed` socket; without one, binds the configured address. Without authentication, both must be
    /// loopback addresses, unless the configuration permits others.
    pub(super) fn open(config: &ApiConfig, passed: Option<TcpListener>) -> Result<Self, StartError> {
        let bind_error = |source| StartError::Bind { listener: Self::NAME, address: config.listen, source };
        let listener = Listener::open(config.listen, passed).map_err(bind_error)?;
        let is_unauthenticated = config.auth == AuthStrategy::None && !config.allow_unauthenticated;
        if is_unauthenticated && !listener.local_addr().ip().to_canonical().is_loopback() {
            return Err(StartError::Unauthenticated(listener.local_addr()));
        }
        // Clients send passwords, so a certificate makes TLS mandatory.
        Ok(Self(listener.with_tls(Tls::new(None, PlainHttp::Refused))))
    }

    /// The bound address.
    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// The TLS configuration, which takes the certificate.
    pub(super) fn tls(&self) -> Tls {
        self.0.tls()
    }

    /// Serves `router` until `stop`, then drains running requests for at most `grace`.
    pub(super) async fn serve(
        self,
        router: Router,
        stop: CancellationToken,
        grace: Duration,
    ) -> Result<(), RunError> {
        self.0.serve(router, limits(), stop, grace).await;
        Ok(())
    }
}

fn limits() -> HttpLimits {
    HttpLimits {
        // Above the API's own limit, so that the API rejects longer bodies in Ironic's error format.
        body: 2 * HttpLimits::default().body,
        // Clients that wait for a node poll every ten seconds over one connection. With a time-out of ten seconds the
        // server could close it just as the next request arrives.
        headers: IDLE_TIMEOUT,
        write: IDLE_TIMEOUT,
        ..HttpLimits::default()
    }
}
