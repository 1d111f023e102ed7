//! [`CinderServer`]: a Cinder in the process of a test, in place of the network.

use std::fmt::Debug;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use reqwest::{Request, Response};

use super::{Cinder, CinderEndpoint, Timeouts};
use crate::keystone::{Credentials, Session, TransportError};
use crate::telemetry::Metrics;

/// Answers requests as a Cinder does, within the client's time limit. A dropped future is a client that no longer waits.
pub(crate) trait CinderServer: Debug + Send + Sync {
    fn answer(
        &self,
        request: Request,
        time_limit: Duration,
    ) -> BoxFuture<'static, Result<Response, TransportError>>;
}

impl Cinder {
    /// A client for this server, with the default time-outs.
    pub(crate) fn in_process(server: Arc<dyn CinderServer>) -> Self {
        // Unused, and slow to build.
        static HTTP: LazyLock<(reqwest::Client, Metrics)> = LazyLock::new(|| {
            crate::tls::install_provider();
            (reqwest::Client::new(), Metrics::new())
        });
        let (http, metrics) = LazyLock::force(&HTTP).clone();
        let credentials = Credentials::None { user: "volboot".into(), project: "project".into() };
        let endpoint = CinderEndpoint { url: Some("http://cinder/v3".into()), ..CinderEndpoint::default() };
        let session = Session::new(credentials, http.clone());
        let mut cinder = Self::new(session, http, endpoint, Timeouts::default(), metrics);
        cinder.0.server = Some(server);
        cinder
    }
}
