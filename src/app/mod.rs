//! Assembly: builds all parts from the configuration, serves, reloads, and shuts down. The only module that uses all
//! others.
//!
//! [`App::new`] opens the store and binds every socket, so that start-up errors surface before anything is served.
//! [`App::run`] serves until the stop signal, applies reloads meanwhile, and ends with a graceful shutdown.

mod cloud;
mod files;
mod reload;
mod sockets;
mod systemd;
mod tftp_events;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Monitoring;
use crate::attach::Attach;
use crate::auth::{Auth, HtpasswdError};
use crate::cinder::Cinder;
use crate::config::{self, Config, ConfigError, Diagnostic, HISTORY_FILE};
use crate::images::Images;
use crate::keystone::Validator;
use crate::listen::{CertificateError, HttpLimits, Listener};
use crate::store::{Attachments, Inventory, OpenError, RedbStore, Store, StoreError};
use crate::telemetry::Metrics;
use crate::tftp;
use crate::timeline::Timeline;
use reload::{Reloadable, Static};
use sockets::Sockets;
pub use sockets::{PassedSocketError, PassedSockets};
use tls::{Certificates, ListenerTls};

/// The deadline for running transfers and requests after the stop signal.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// The time-out for recording the events of those transfers.
const EVENT_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The idle time-out of connections to the operator listener.
const OPERATOR_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Length of the queue of TFTP events.
const TFTP_EVENT_QUEUE: usize = 1024;

/// volboot cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The password file cannot be read.
    #[error(transparent)]
    Passwords(#[from] HtpasswdError),
    /// The configured cloud cannot be used.
    #[error("{}", config::format_diagnostics(.0))]
    Cloud(Vec<Diagnostic>),
    /// A certificate cannot be loaded.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The service manager passed a non-loopback API socket, but authentication is off.
    #[error(
        "the API without authentication may listen on loopback only, but the socket passed as 'api' is {0}; \
         set [api] allow_unauthenticated = true to give every client full access"
    )]
    Unauthenticated(SocketAddr),
    /// A socket cannot be bound.
    #[error("cannot listen on {address} ({listener})")]
    Bind {
        /// The listener: `tftp`, `http` or `api`.
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

/// All parts, ready to serve.
pub struct App {
    config: Config,
    auth: Auth,
    cinder: Option<Cinder>,
    store: Arc<dyn Store>,
    metrics: Metrics,
    timeline: Timeline,
    images: Images,
    tftp: tftp::Server,
    http: Listener,
    api: Listener,
    tls: ListenerTls,
}

impl App {
    /// Opens the store, takes the `passed` sockets and binds the others. Must be called within a runtime.
    pub fn new(config: Config, passed: PassedSockets) -> Result<Self, StartError> {
        let Sockets { tftp, http, api } = Sockets::open(&config, passed)?;
        let cloud = cloud::resolve(&config.cinder.cloud).map_err(StartError::Cloud)?;
        let auth = match config.api.auth {
            config::AuthStrategy::None => Auth::NoAuth,
            config::AuthStrategy::HttpBasic => Auth::http_basic(&config.api.htpasswd_file)?,
            config::AuthStrategy::Keystone => {
                let validator =
                    Validator::resolve(&config.keystone, cloud.as_ref()).map_err(StartError::Cloud)?;
                Auth::keystone(validator, config.api.projects.clone())
            }
        };
        let metrics = Metrics::new();
        let cinder = cloud.map(|cloud| cloud::build_cinder(cloud, metrics.clone()));
        let store = RedbStore::open(&config.store.path)?;
        // In the store's directory, which exists by now and has restricted permissions.
        let timeline = Timeline::open(Some(&history_path(&config)), metrics.clone());
        let images = find_images(&config.tftp.images);
        let tls = ListenerTls::new(Certificates::read_blocking(&config)?);
        Ok(Self {
            config,
            auth,
            cinder,
            store: Arc::new(store),
            metrics,
            timeline,
            images,
            tftp,
            http,
            api,
            tls,
        })
    }

    /// Serves until `stop`, then drains running transfers and requests and closes the store. Each configuration from
    /// `reloads` replaces the current one.
    pub async fn run(
        self,
        stop: CancellationToken,
        mut reloads: mpsc::Receiver<Result<Config, ConfigError>>,
    ) -> Result<(), RunError> {
        let Self { config, auth, cinder, store, metrics, timeline, images, tftp, http, api, tls } = self;
        let http_address = http.local_addr();
        let tftp_addresses = tftp.local_addrs().into_iter().map(|address| ("tftp", address));
        let addresses: Vec<_> =
            tftp_addresses.chain([("http", http_address), ("api", api.local_addr())]).collect();
        for (listener, address) in &addresses {
            tracing::info!(listener, %address, "listening");
        }

        let inventory = Inventory::new(Arc::clone(&store));
        let attachments = Attachments::new(Arc::clone(&store));
        let attach = Attach::new(attachments, cinder, cloud::build_policy(&config));
        let monitoring = Monitoring {
            timeline: timeline.clone(),
            metrics,
            scripts: config.boot,
            attach: attach.clone(),
            images: images.clone(),
            listeners: addresses,
            store_path: config.store.path.clone(),
            history_path: history_path(&config),
            tftp_counters: tftp.counters(),
            started_at: Timestamp::now(),
            stop: stop.clone(),
        };
        let static_parts = Static {
            auth,
            inventory,
            attach: attach.clone(),
            http: http_address,
            tls: tls.clone(),
            monitoring,
        };
        let mut reloadable = Reloadable::new(config, images, static_parts);

        let (events, transfers) = mpsc::channel(TFTP_EVENT_QUEUE);
        let event_task = tokio::spawn(tftp_events::record_transfers(transfers, timeline.clone()));
        let mut listeners = JoinSet::new();
        listeners.spawn({
            let (files, stop) = (Arc::new(reloadable.files()), stop.clone());
            async move { tftp.serve(files, events, stop, SHUTDOWN_GRACE).await.map_err(RunError::Tftp) }
        });
        let http_listeners = [
            (http, reloadable.boot_router(), HttpLimits::default(), tls.http),
            (api, reloadable.operator_router(), operator_limits(), tls.api),
        ];
        for (listener, router, limits, tls) in http_listeners {
            tokio::spawn(tls.clone().watch_files(stop.clone()));
            let serve = listener.with_tls(tls).serve(router, limits, stop.clone(), SHUTDOWN_GRACE);
            listeners.spawn(async move {
                serve.await;
                Ok(())
            });
        }
        let mut reconciler = tokio::spawn(attach.clone().reconcile(stop.clone()));
        tokio::spawn(systemd::run_watchdog(stop.clone()));
        systemd::notify_ready();
        tracing::info!("ready");

        // A task that exits before the stop signal has failed. volboot then stops as a whole, and the service manager
        // restarts it.
        let failure = loop {
            tokio::select! {
                // Polled first: after the stop signal, a listener that has exited is not a failure.
                biased;
                () = stop.cancelled() => break None,
                Some(result) = listeners.join_next() => break Some(match result {
                    Ok(Err(error)) => error,
                    Ok(Ok(())) => RunError::Task("a listener exited unexpectedly".into()),
                    Err(error) => RunError::Task(format!("a listener failed: {error}")),
                }),
                result = &mut reconciler => break Some(match result {
                    Ok(()) => RunError::Task("the reconciler exited unexpectedly".into()),
                    Err(error) => RunError::Task(format!("the reconciler failed: {error}")),
                }),
                error = store.wait_for_failure() => break Some(RunError::Store(error)),
                Some(config) = reloads.recv() => reloadable.reload(config).await,
            }
        };
        systemd::notify_stopping();
        tracing::info!("stopping");
        stop.cancel();
        // Each listener keeps the deadline itself.
        while listeners.join_next().await.is_some() {}
        if tokio::time::timeout(EVENT_DRAIN_TIMEOUT, event_task).await.is_err() {
            tracing::warn!("TFTP transfers missing from the timeline: recording timed out");
        }
        // No more boot requests arrive. Calls to Cinder in flight may still complete.
        attach.drain(SHUTDOWN_GRACE).await;
        if !reconciler.is_finished()
            && let Err(error) = reconciler.await
        {
            tracing::error!(error = %error, "the reconciler failed");
        }
        // The close has its own time-out, and an unwritten history is not a failure.
        let _ = tokio::task::spawn_blocking(move || timeline.close_blocking()).await;
        match (failure, store.close().await) {
            (Some(failure), _) => return Err(failure),
            (None, result) => result?,
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// The limits of the operator listener.
fn operator_limits() -> HttpLimits {
    HttpLimits {
        // Above the API's own limit, so that the API rejects longer bodies in Ironic's error format.
        body: 2 * HttpLimits::default().body,
        // Clients that wait for a node poll every ten seconds over one connection. With a time-out of ten seconds the
        // server could close it just as the next request arrives.
        headers: OPERATOR_IDLE_TIMEOUT,
        write: OPERATOR_IDLE_TIMEOUT,
        ..HttpLimits::default()
    }
}

/// The history file's path, in the store's directory.
fn history_path(config: &Config) -> PathBuf {
    config.store.path.with_file_name(HISTORY_FILE)
}

fn find_images(directories: &[PathBuf]) -> Images {
    let images = Images::find(directories);
    for image in images.available() {
        let (name, path, size) = (image.name, image.path.display(), image.content.len());
        tracing::info!(name, %path, size, "iPXE binary");
    }
    for missing in images.missing() {
        let (name, firmware) = (missing.name, missing.firmware);
        tracing::warn!(name, firmware, install = missing.packages, "iPXE binary not found");
    }
    images
}
