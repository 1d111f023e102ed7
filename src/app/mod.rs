//! Assembly: builds all parts from the configuration, serves, reloads, and shuts down. The only module that uses all
//! others.
//!
//! [`App::open_blocking`] opens the store and binds every socket, so that start-up errors surface before anything is
//! served. [`App::run`] serves until the stop signal, applies reloads meanwhile, and ends with a graceful shutdown.

mod boot;
mod boot_url;
mod cloud;
mod cluster;
mod descriptors;
mod dhcp;
mod error;
mod exchanges;
mod files;
mod known_ports;
mod listeners;
mod node_cache;
mod offers;
mod operator;
mod reload;
mod routed;
mod serving;
mod sockets;
mod store;
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
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::attach::Attach;
use crate::auth::Auth;
use crate::boot::FallbackWatch;
use crate::check::VolumeChecks;
use crate::cluster::{self as instances, Membership};
use crate::config::{AuthStrategy, Config, HISTORY_FILE, StoreConfig, StoreKind};
use crate::keystone::{Cloud, Validator};
use crate::model::InstanceName;
use crate::neighbours::Neighbours;
use crate::operator::{Appliance, InterruptedOperations, NetworkBootWatch};
use crate::power::{Power, PowerLimits};
use crate::preflight::Preflight;
use crate::store::{Attachments, Inventory, Store};
use crate::telemetry::Metrics;
use crate::timeline::Timeline;
pub use descriptors::raise_descriptor_limit;
use descriptors::{DescriptorBudget, find_shortage};
use dhcp::DhcpListener;
pub(crate) use dhcp::{find_missing_capability, find_missing_interfaces};
pub use error::{RunError, StartError};
use files::ConfiguredFiles;
pub use files::{ConfiguredFileError, load_config_blocking};
use known_ports::KnownPorts;
use listeners::Listeners;
use reload::{Reloadable, Static};
pub(crate) use routed::find_unnamed_networks;
use serving::{RunningCluster, Serving, Shutdown};
pub use sockets::{PassedSocketError, PassedSockets};
use store::open_store_blocking;
use store_socket::StoreSocket;
pub use store_socket::{EXPORT_REQUEST, STORE_SOCKET};

/// The deadline for running transfers and requests after the stop signal.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);

/// All parts, ready to serve.
pub struct App {
    listeners: Listeners,
    services: Reloadable,
    attach: Attach,
    power: Power,
    fallback_watch: FallbackWatch,
    preflight: Preflight,
    inventory: Inventory,
    network_boots: NetworkBootWatch,
    timeline: Timeline,
    store: Arc<dyn Store>,
    store_socket: Option<StoreSocket>,
    membership: Membership,
    /// The client for the other instances; `None` without a listener for them.
    peer_client: Option<reqwest::Client>,
    shutdown: Shutdown,
}

impl App {
    /// Takes the `passed` sockets and binds the others, reads the files that `config` names, and opens the store.
    ///
    /// A reload loads the configuration from `file` again. `leaving` is cancelled by the stop signal. Must be called within
    /// a runtime.
    pub fn open_blocking(
        config: Config,
        file: Option<PathBuf>,
        passed: PassedSockets,
        leaving: CancellationToken,
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
        let hostname = read_hostname();
        let name = cluster::choose_name(&config.cluster, &hostname);
        let cluster_url = listeners.cluster.as_ref().map(|cluster| cluster.url().to_owned());
        let own = cluster_url.is_some().then(|| name.clone());
        let cacert = config.cluster.cacert.as_deref();
        let peer_client = own.is_some().then(|| instances::build_client(cacert)).transpose()?;
        let session = config.cluster.session;
        let (store, timeline) = open_files_blocking(&config.store, session, &history_path, &metrics, own)?;
        let neighbours = Neighbours::default();
        timeline.card_sightings().into_iter().for_each(|sighting| neighbours.note_sighting(sighting));
        let cinder = cloud.map(|cloud| cloud::build_cinder(cloud, metrics.clone()));
        let attach = Attach::new(Attachments::new(Arc::clone(&store)), cinder, cloud::build_policy(&config));
        let inventory = Inventory::new(Arc::clone(&store));
        let at_once = config.power.at_once as usize;
        let limits = PowerLimits {
            round: config.power.sync_power_state_interval,
            first_request: config.power.first_request_timeout,
            ..PowerLimits::default()
        };
        let power = Power::new(inventory.clone(), at_once, limits)
            .with_telemetry(metrics.clone(), timeline.power_on_times());
        let preflight = Preflight::default();
        let tls = listeners.tls();
        tls.set_certificates(certificates);
        let started_at = Timestamp::now();
        let announcement = cluster::build_announcement(&config, &images, cluster_url.as_deref(), started_at);
        let membership = Membership::new(name, Arc::clone(&store), timeline.clone(), announcement)
            .map_err(StartError::Random)?;
        let shutdown = Shutdown { leaving, delay: find_drain_delay(&config), stop: CancellationToken::new() };
        let appliance = Appliance {
            metrics,
            listeners: listeners.addresses(),
            history_path,
            tftp_counters: listeners.tftp.counters(),
            dhcp_status: listeners.dhcp.as_ref().map(DhcpListener::status),
            connection_counters: listeners.connection_counters(),
            started_at,
            leaving: shutdown.leaving.clone(),
            stop: shutdown.stop.clone(),
        };
        let fallback_watch = FallbackWatch::new(inventory.clone()).with_network(Arc::new(neighbours.clone()));
        let static_parts = Static {
            auth,
            inventory: inventory.clone(),
            known_ports: KnownPorts::default(),
            attach: attach.clone(),
            power: power.clone(),
            volume_checks: VolumeChecks::default(),
            fallback_watch: fallback_watch.clone(),
            timeline: timeline.clone(),
            neighbours,
            preflight: preflight.clone(),
            http: listeners.boot.address(),
            tftp: listeners.tftp.addresses(),
            tls,
            membership: membership.clone(),
            appliance,
        };
        let services = Reloadable::new(config, file, images, static_parts);
        let store_socket = StoreSocket::open_blocking();
        let network_boots = NetworkBootWatch::new(inventory.clone(), timeline.clone(), limits.first_request);
        Ok(Self {
            listeners,
            services,
            attach,
            power,
            fallback_watch,
            preflight,
            inventory,
            network_boots,
            timeline,
            store,
            store_socket,
            membership,
            peer_client,
            shutdown,
        })
    }

    /// Serves until the stop signal, then drains running transfers and requests and closes the store. Each
    /// notification of `reload` loads the configuration again.
    pub async fn run(self, reload: Arc<Notify>) -> Result<(), RunError> {
        for (listener, address) in self.listeners.addresses() {
            tracing::info!(listener, %address, "listening");
        }
        let hostname = self.membership.name().to_string();
        let interrupted =
            InterruptedOperations::new(self.inventory.clone(), hostname, self.membership.sessions());
        // Before the API is served, so that a client meets no operation of the last run. A shared store may be away.
        if let Err(error) = interrupted.end_now().await {
            tracing::warn!(%error, "interrupted operations are looked for once the store responds");
        }
        let stop = self.shutdown.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(interrupted.run()).await });
        self.network_boots.resume().await;
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
        let Self {
            mut listeners,
            services,
            attach,
            power,
            fallback_watch,
            preflight,
            inventory: _,
            network_boots: _,
            timeline,
            store,
            store_socket,
            membership,
            peer_client,
            shutdown,
        } = self;
        let stop = shutdown.stop.clone();
        if let Some(socket) = store_socket {
            tokio::spawn(socket.serve(Arc::clone(&store), stop.clone()));
        }
        let cluster =
            RunningCluster::spawn(membership, listeners.cluster.take(), peer_client, attach.clone());
        let boot_connections = listeners.boot.counters();
        let listeners = listeners.spawn(&services, &timeline, &stop, SHUTDOWN_GRACE);
        let reconciler = tokio::spawn(attach.clone().reconcile(stop.clone()));
        tokio::spawn(preflight.run(stop.clone()));
        tokio::spawn(power.clone().run_rounds(stop.clone()));
        tokio::spawn(fallback_watch.clone().run(stop.clone()));
        tokio::spawn(fallback_watch.follow_connections(boot_connections, stop.clone()));
        tokio::spawn(systemd::run_watchdog(stop.clone()));
        (Serving { listeners, reconciler, attach, power, timeline, cluster, store, shutdown }, services)
    }
}

/// Opens the store and the history, concurrently: the store's integrity check and the list of machines take time.
fn open_files_blocking(
    store: &StoreConfig,
    session: Duration,
    history: &Path,
    metrics: &Metrics,
    own: Option<InstanceName>,
) -> Result<(Arc<dyn Store>, Timeline), StartError> {
    let open_timeline = || match &own {
        Some(own) => Timeline::open_instance_blocking(Some(history), metrics.clone(), own.clone()),
        None => Timeline::open_blocking(Some(history), metrics.clone()),
    };
    // A history is created only after the store: it is the trace by which an empty store counts as damaged.
    let history_exists = history.exists();
    let runtime = Handle::current();
    std::thread::scope(|scope| {
        let early = history_exists.then(|| scope.spawn(open_timeline));
        // On a thread of its own, which may wait for the runtime.
        let store = scope.spawn(|| open_store_blocking(store, session, &runtime)).join();
        let store = store.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let timeline = early.and_then(|thread| thread.join().ok()).unwrap_or_else(open_timeline);
        Ok((store, timeline))
    })
}

/// The time between the stop signal and the end. Without other instances, no machine would be directed elsewhere.
fn find_drain_delay(config: &Config) -> Duration {
    match config.store.kind {
        StoreKind::Redb => Duration::ZERO,
        StoreKind::Etcd => config.cluster.drain_delay,
    }
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
