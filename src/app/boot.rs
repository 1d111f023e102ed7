//! The boot listener: serves boot scripts and iPXE binaries to machines over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use super::error::{RunError, StartError};
use crate::config::HttpConfig;
use crate::listen::{HttpLimits, Listener, PlainHttp, Tls};

/// The bound boot listener.
pub(super) struct BootListener(Listener);

impl BootListener {
    /// Name of the listener, and of its passed socket.
    pub(super) const NAME: &str = "http";

    /// Adopts the `passed` socket; without one, binds the configured address.
    pub(super) fn open(config: &HttpConfig, passed: Option<TcpListener>) -> Result<Self, StartError> {
        let bind_error = |source| StartError::Bind { listener: Self::NAME, address: config.listen, source };
        let listener = Listener::open(config.listen, passed).map_err(bind_error)?;
        // Accepts plain HTTP beside TLS: only some builds of iPXE support TLS.
        Ok(Self(listener.with_tls(Tls::new(None, PlainHttp::Allowed))))
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
        self.0.serve(router, HttpLimits::default(), stop, grace).await;
        Ok(())
    }
}
