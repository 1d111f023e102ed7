//! The cluster listener: serves the events of this instance to the others. And what this instance announces.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::error::StartError;
use crate::config::{ClusterConfig, Config};
use crate::images::Images;
use crate::listen::{ConnectionCounters, HttpLimits, Listener, PlainHttp, Tls};
use crate::model::{Announcement, InstanceName};

/// The most connections: each other instance keeps one.
const CONNECTIONS: usize = 32;
/// The largest body of a request, in bytes. Requests for events have none.
const MAX_BODY: usize = 4096;
/// Hexadecimal digits of a fingerprint.
const FINGERPRINT: usize = 16;

/// The bound cluster listener.
pub(super) struct ClusterListener {
    listener: Listener,
    /// Its base URL for the other instances.
    url: String,
}

impl ClusterListener {
    /// Name of the listener.
    pub(super) const NAME: &str = "cluster";

    /// Binds the configured address; `None` without one.
    pub(super) fn open(config: &ClusterConfig) -> Result<Option<Self>, StartError> {
        let Some(address) = config.listen else { return Ok(None) };
        let bind_error = |source| StartError::Bind { listener: Self::NAME, address, source };
        let listener = Listener::open(address, None).map_err(bind_error)?;
        let listener = listener.with_tls(Tls::new(None, PlainHttp::Refused));
        let url = config.public_url(listener.local_addr());
        Ok(Some(Self { listener, url }))
    }

    /// The bound address.
    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// The base URL for the other instances.
    pub(super) fn url(&self) -> &str {
        &self.url
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
    pub(super) async fn serve(self, router: Router, stop: CancellationToken, grace: Duration) {
        let limits = HttpLimits {
            connections: CONNECTIONS,
            connections_per_client: CONNECTIONS,
            body: MAX_BODY,
            ..HttpLimits::default()
        };
        self.listener.serve(router, limits, stop, grace).await;
    }
}

/// The name of this instance.
pub(super) fn choose_name(config: &ClusterConfig, hostname: &str) -> InstanceName {
    config.name.clone().unwrap_or_else(|| InstanceName::of_host(hostname))
}

/// The announcement of this process.
pub(super) fn build_announcement(
    config: &Config,
    images: &Images,
    url: Option<&str>,
    started_at: Timestamp,
) -> Announcement {
    let mut announcement = Announcement {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        url: url.map(str::to_owned),
        group: config.conductor_group.clone(),
        queue_length: 0,
        config: BTreeMap::new(),
        images: BTreeMap::new(),
    };
    announce_configuration(&mut announcement, config, images);
    announcement
}

/// Replaces the fingerprints of what must be the same on all instances.
pub(super) fn announce_configuration(announcement: &mut Announcement, config: &Config, images: &Images) {
    let cut = |digest: String| digest.chars().take(FINGERPRINT).collect::<String>();
    let fingerprint = |text: &str| {
        let digest = Sha256::digest(text.as_bytes());
        cut(digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
    };
    let values = config.shared_values().into_iter();
    announcement.config = values.map(|(key, value)| (key.to_owned(), fingerprint(&value))).collect();
    let images = images.available().iter();
    announcement.images = images.map(|image| (image.name.to_owned(), cut(image.sha256()))).collect();
    announcement.group = config.conductor_group.clone();
}
