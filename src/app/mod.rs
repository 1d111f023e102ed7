//! Assembly: builds all parts from the configuration, serves, reloads, and shuts down. The only module that uses all
//! others.
//!
//! [`App::open_blocking`] opens the store and binds every socket, so that start-up errors surface before anything is
//! served. [`App::run`] serves until the stop signal, applies reloads meanwhile, and ends with a graceful shutdown.

mod boot;
mod boot_url;
mod cloud;
mod descriptors;
mod dhcp;
mod error;
mod exchanges;
mod files;
mod listeners;
mod offers;
mod operator;
mod reload;
mod routed;
mod serving;
mod sockets;
mod store_socket;
mod systemd;
mod tftp;
mod tls;
mod transfers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::unistd::gethostname;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::attach::Attach;
use crate::auth::Auth;
use crate::check::VolumeChecks;
use crate::config::{AuthStrategy, Config, HISTORY_FILE};
use crate::keystone::{Cloud, Validator};
use crate::neighbours::Neighbours;
use crate::operator::Appliance;
use crate::store::{Attachments, Inventory, RedbStore, Store};
use crate::telemetry::Metrics;
use crate::timeline::Timeline;
pub use descriptors::raise_descriptor_limit;
use descriptors::{DescriptorBudget, find_shortage};
use dhcp::DhcpListener;
pub(crate) use dhcp::find_missing_interfaces;
pub use error::{RunError, StartError};
use files::ConfiguredFiles;
pub use files::{ConfiguredFileError, load_config_blocking};
use listeners::Listeners;
use reload::{Reloadable, Static};
pub(crate) use routed::find_unnamed_networks;
use serving::Serving;
pub use sockets::{PassedSocketError, PassedSockets};
use store_socket::StoreSocket;
pub use store_socket::{EXPORT_REQUEST, STORE_SOCKET};

/// The deadline for running transfers and requests after the stop signal.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// All parts, ready to serve.
pub struct App {
    listeners: Listeners,
    services: Reloadable,
    attach: Attach,
    timeline: Timeline,
    store: Arc<dyn Store>,
    store_socket: Option<StoreSocket>,
    stop: CancellationToken,
}

impl App {
    /// Takes the `passed` sockets and binds the others, reads the files that `config` names, and opens the store.
    ///
    /// A reload loads the configuration from `file` again. Must be called within a runtime.
    pub fn open_blocking(
        config: Config,
        file: Option<PathBuf>,
        passed: PassedSockets,
        stop: CancellationToken,
    ) -> Result<Self, StartError> {
        if let Some(warning) = find_shortage(&config) {
            tracing::warn!(%warning, "too few file descriptors");
        }
        let listeners = Listeners::open(&config, passed, DescriptorBudget::new(&config))?;
        // Before the store: a faulty file must not leave a migrated store behind.
        let ConfiguredFiles { cloud, certificates, images } = ConfiguredFiles::read_blocking(&config)?;
        let metrics = Metrics::new();
        let auth = open_auth_blocking(&config, cloud.as_ref(), &metrics)?;
        let history_path = config.store.path.with_file_name(HISTORY_FILE);
        let (store, timeline) = open_files_blocking(&config.store.path, &history_path, &metrics)?;
        let neighbours = Neighbours::default();
        timeline.card_sightings().into_iter().for_each(|sighting| neighbours.note_sighting(sighting));
        let cinder = cloud.map(|cloud| cloud::build_cinder(cloud, metrics.clone()));
        let attach = Attach::new(Attachments::new(Arc::clone(&store)), cinder, cloud::build_policy(&config));
        let tls = listeners.tls();
        tls.set_certificates(certificates);
        let appliance = Appliance {
            metrics,
            listeners: listeners.addresses(),
            history_path,
            tftp_counters: listeners.tftp.counters(),
            dhcp_status: listeners.dhcp.as_ref().map(DhcpListener::status),
            connection_counters: listeners.connection_counters(),
            started_at: Timestamp::now(),
            stop: stop.clone(),
        };
        let static_parts = Static {
            auth,
            inventory: Inventory::new(Arc::clone(&store)),
            attach: attach.clone(),
            volume_checks: VolumeChecks::default(),
            timeline: timeline.clone(),
            neighbours,
            http: listeners.boot.address(),
            tftp: listeners.tftp.addresses(),
            tls,
            hostname: read_hostname(),
            appliance,
        };
        let services = Reloadable::new(config, file, images, static_parts);
        let store_socket = StoreSocket::open_blocking();
        Ok(Self { listeners, services, attach, timeline, store, store_socket, stop })
    }

    /// Serves until the stop signal, then drains running transfers and requests and closes the store. Each
    /// notification of `reload` loads the configuration again.
    pub async fn run(self, reload: Arc<Notify>) -> Result<(), RunError> {
        for (listener, address) in self.listeners.addresses() {
            tracing::info!(listener, %address, "listening");
        }
        let (mut serving, services) = self.spawn();
        systemd::notify_ready();
        tracing::info!("ready");
        let served = serving.supervise(services.reload_on(&reload)).await;
        systemd::notify_stopping();
        tracing::info!("stopping");
        let closed = serving.drain(SHUTDOWN_GRACE).await;
        served?;
        closed?;
        tracing::info!("stopped");
        Ok(())
    }

    /// Starts all tasks.
    fn spawn(self) -> (Serving, Reloadable) {
        let Self { listeners, services, attach, timeline, store, store_socket, stop } = self;
        if let Some(socket) = store_socket {
            tokio::spawn(socket.serve(Arc::clone(&store), stop.clone()));
        }
        let listeners = listeners.spawn(&services, &timeline, &stop, SHUTDOWN_GRACE);
        let reconciler = tokio::spawn(attach.clone().reconcile(stop.clone()));
        tokio::spawn(systemd::run_watchdog(stop.clone()));
        (Serving { listeners, reconciler, attach, timeline, store, stop }, services)
    }
}

/// Opens the store and the history, concurrently: the store's integrity check and the list of machines take time.
fn open_files_blocking(
    store: &Path,
    history: &Path,
    metrics: &Metrics,
) -> Result<(Arc<dyn Store>, Timeline), StartError> {
    let open_timeline = || Timeline::open_blocking(Some(history), metrics.clone());
    // A history is created only after the store: it is the trace by which an empty store counts as damaged.
    let history_exists = history.exists();
    std::thread::scope(|scope| {
        let early = history_exists.then(|| scope.spawn(open_timeline));
        let store: Arc<dyn Store> = Arc::new(RedbStore::open_with_progress(store, systemd::notify_checking)?);
        let timeline = early.and_then(|thread| thread.join().ok()).unwrap_or_else(open_timeline);
        Ok((store, timeline))
    })
}

/// The host's name. Linux limits its length, but not its characters.
fn read_hostname() -> String {
    match gethostname() {
        Ok(name) if !name.is_empty() => name.to_string_lossy().into_owned(),
        Ok(_) | Err(_) => "localhost".to_owned(),
    }
}

fn open_auth_blocking(config: &Config, cloud: Option<&Cloud>, metrics: &Metrics) -> Result<Auth, StartError> {
    Ok(match config.api.auth {
        AuthStrategy::None => Auth::NoAuth,
        AuthStrategy::HttpBasic => Auth::http_basic_blocking(&config.api.htpasswd_file, metrics.clone())?,
        AuthStrategy::Keystone => {
            let validator =
                Validator::resolve_blocking(&config.keystone, cloud).map_err(ConfiguredFileError::Cloud)?;
            Auth::keystone(validator, config.api.projects.clone())
        }
    })
}
