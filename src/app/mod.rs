//! Assembly: builds all parts from the configuration, serves, reloads, and shuts down. The only module that uses all
//! others.
//!
//! [`App::new`] opens the store and binds every socket, so that start-up errors surface before anything is served.
//! [`App::run`] serves until the stop signal, applies reloads meanwhile, and ends with a graceful shutdown.

mod boot;
mod cloud;
mod error;
mod listeners;
mod operator;
mod reload;
mod sockets;
mod systemd;
mod tftp;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::Monitoring;
use crate::attach::Attach;
use crate::auth::Auth;
use crate::cinder::Cinder;
use crate::config::{self, Config, ConfigError, HISTORY_FILE};
use crate::images::Images;
use crate::keystone::Validator;
use crate::store::{Attachments, Inventory, RedbStore, Store};
use crate::telemetry::Metrics;
use crate::timeline::Timeline;
pub use error::{RunError, StartError};
use listeners::Listeners;
use reload::{Reloadable, Static};
pub use sockets::{PassedSocketError, PassedSockets};
use tls::Certificates;

/// The deadline for running transfers and requests after the stop signal.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// All parts, ready to serve.
pub struct App {
    config: Config,
    auth: Auth,
    cinder: Option<Cinder>,
    store: Arc<dyn Store>,
    metrics: Metrics,
    timeline: Timeline,
    images: Images,
    listeners: Listeners,
    certificates: Certificates,
}

impl App {
    /// Opens the store, takes the `passed` sockets and binds the others. Must be called within a runtime.
    pub fn new(config: Config, passed: PassedSockets) -> Result<Self, StartError> {
        let listeners = Listeners::open(&config, passed)?;
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
        let certificates = Certificates::read_blocking(&config)?;
        Ok(Self {
            config,
            auth,
            cinder,
            store: Arc::new(store),
            metrics,
            timeline,
            images,
            listeners,
            certificates,
        })
    }

    /// Serves until `stop`, then drains running transfers and requests and closes the store. Each configuration from
    /// `reloads` replaces the current one.
    pub async fn run(
        self,
        stop: CancellationToken,
        mut reloads: mpsc::Receiver<Result<Config, ConfigError>>,
    ) -> Result<(), RunError> {
        let Self { config, auth, cinder, store, metrics, timeline, images, listeners, certificates } = self;
        let addresses = listeners.addresses();
        for (listener, address) in &addresses {
            tracing::info!(listener, %address, "listening");
        }
        let tls = listeners.tls();
        tls.set_certificates(certificates);

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
            tftp_counters: listeners.tftp.counters(),
            started_at: Timestamp::now(),
            stop: stop.clone(),
        };
        let static_parts = Static {
            auth,
            inventory,
            attach: attach.clone(),
            http: listeners.boot.address(),
            tls,
            monitoring,
        };
        let mut reloadable = Reloadable::new(config, images, static_parts);

        let mut listeners = listeners.spawn(&reloadable, &timeline, &stop, SHUTDOWN_GRACE);
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
