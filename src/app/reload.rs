//! Reload: services built from one configuration, and replaced as a whole by the next.
//!
//! Sockets, connections and transfers survive a reload. Each request is handled by the services that are current when
//! it arrives, and finishes with them.

use std::convert::Infallible;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use tower::{ServiceExt, service_fn};

use super::boot_url::BootUrl;
use super::cloud::{build_cinder, build_policy};
use super::cluster::announce_configuration;
use super::dhcp::find_missing_interfaces;
use super::files::{ConfiguredFileError, ConfiguredFiles, load_config_blocking};
use super::known_ports::KnownPorts;
use super::node_cache::NodeCache;
use super::offers::{MachineOffers, OfferNote};
use super::routed::log_unnamed_networks;
use super::systemd;
use super::tftp::MachineFiles;
use super::tls::ListenerTls;
use crate::api;
use crate::attach::Attach;
use crate::auth::{Auth, BrowserGuard};
use crate::boot::{Boot, FallbackPolicy, FallbackWatch};
use crate::check::VolumeChecks;
use crate::cluster::Membership;
use crate::config::{BootConfig, Config, ConfigError};
use crate::dhcp::{BootPolicy, NamedFile, NetbootClient};
use crate::http::{self, HttpState};
use crate::images::Images;
use crate::model::Conductor;
use crate::neighbours::Neighbours;
use crate::operator::{Appliance, Operator};
use crate::power::Power;
use crate::preflight::Preflight;
use crate::store::Inventory;
use crate::telemetry::log;
use crate::tftp::{FileSource, ReadRequest};
use crate::timeline::Timeline;
use crate::web;

/// The time-out for the rest of a reload that a newer request replaces.
const HANG_TIMEOUT: Duration = Duration::from_secs(1);

/// A reload cannot read the configuration.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    File(#[from] ConfiguredFileError),
    /// The reading thread panicked.
    #[error(transparent)]
    Task(#[from] JoinError),
}

/// The services behind the listeners, as one configuration defines them.
struct Services {
    offers: Arc<MachineOffers>,
    files: MachineFiles,
    boot: Router,
    operator: Router,
}

/// The parts that survive a reload.
pub(super) struct Static {
    pub(super) auth: Auth,
    pub(super) inventory: Inventory,
    /// Followed while the ProxyDHCP server runs.
    pub(super) known_ports: KnownPorts,
    pub(super) attach: Attach,
    pub(super) power: Power,
    pub(super) volume_checks: VolumeChecks,
    pub(super) fallback_watch: FallbackWatch,
    pub(super) timeline: Timeline,
    pub(super) neighbours: Neighbours,
    pub(super) preflight: Preflight,
    /// The bound address of the boot listener.
    pub(super) http: SocketAddr,
    /// The bound addresses of the TFTP server.
    pub(super) tftp: Vec<SocketAddr>,
    /// The certificates of both HTTP listeners.
    pub(super) tls: ListenerTls,
    /// This process among the instances on the store. Ironic's clients see a conductor with its name.
    pub(super) membership: Membership,
    pub(super) appliance: Appliance,
}

/// The current services, and the parts from which the next are built.
pub(super) struct Reloadable {
    /// The configuration file.
    file: Option<PathBuf>,
    /// The configuration at start: its restart-only keys stay in effect.
    start_config: Config,
    static_parts: Static,
    services: watch::Sender<Services>,
}

impl Reloadable {
    /// Builds the first services.
    pub(super) fn new(config: Config, file: Option<PathBuf>, images: Images, static_parts: Static) -> Self {
        log_warnings(&config);
        log_images(&images);
        let services = watch::Sender::new(Services::new(&config, images, &static_parts));
        static_parts.spawn_network_check(&config);
        Self { file, start_config: config, static_parts, services }
    }

    /// The TFTP server's files; each request reads the current ones.
    pub(super) fn files(&self) -> impl FileSource + use<> {
        CurrentFiles(self.services.subscribe())
    }

    /// Keeps the addresses of the ports up to date, which the ProxyDHCP server needs.
    pub(super) fn follow_ports(&self) -> impl Future<Output = Infallible> + use<> {
        self.static_parts.known_ports.clone().follow(self.static_parts.inventory.clone())
    }

    /// The ProxyDHCP server's policy; each request uses the current one.
    pub(super) fn offers(&self) -> impl BootPolicy<Note = OfferNote> + use<> {
        CurrentOffers(self.services.subscribe())
    }

    /// The boot listener's routes; each request takes the current ones.
    pub(super) fn boot_router(&self) -> Router {
        self.current_router(|services| &services.boot)
    }

    /// The operator listener's routes; each request takes the current ones.
    pub(super) fn operator_router(&self) -> Router {
        self.current_router(|services| &services.operator)
    }

    fn current_router(&self, select: fn(&Services) -> &Router) -> Router {
        let services = self.services.subscribe();
        Router::new().fallback_service(service_fn(move |request: Request| {
            let router = select(&services.borrow()).clone();
            async move {
                Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
            }
        }))
    }

    /// Reloads at each notification. A notification during a reload starts the next one: the newest wins. The running
    /// reload may finish first, unless it hangs on a file.
    pub(super) async fn reload_on(&self, requests: &Notify) -> Infallible {
        loop {
            requests.notified().await;
            loop {
                let mut reload = pin!(self.reload());
                tokio::select! {
                    biased;
                    () = &mut reload => break,
                    () = requests.notified() => {}
                }
                if timeout(HANG_TIMEOUT, reload).await.is_err() {
                    tracing::warn!("reload abandoned: it hangs on a file, and a newer request replaces it");
                }
            }
        }
    }

    /// Replaces the services by those of the current configuration. An invalid configuration changes nothing.
    ///
    /// Cancel safe: the changes are one step at the end.
    async fn reload(&self) {
        systemd::notify_reloading();
        match self.read().await {
            Ok((config, files)) => {
                self.apply(&config, files);
                systemd::notify_ready();
                tracing::info!("configuration reloaded");
            }
            Err(error) => {
                let cause = error.source().map(tracing::field::display);
                tracing::error!(error = %error, cause, "reload failed; the previous configuration stays in effect");
                systemd::notify_reload_failed();
            }
        }
    }

    /// Reads the configuration and the files it names.
    async fn read(&self) -> Result<(Config, ConfiguredFiles), ReloadError> {
        let file = self.file.clone();
        let config = spawn_blocking(move || load_config_blocking(file.as_deref())).await??;
        for key in self.start_config.changed_restart_keys(&config) {
            tracing::warn!(key, "configuration key changed; takes effect after a restart");
        }
        spawn_blocking(move || {
            let files = ConfiguredFiles::read_blocking(&config)?;
            Ok((config, files))
        })
        .await?
    }

    /// Replaces all that depends on the configuration.
    fn apply(&self, config: &Config, files: ConfiguredFiles) {
        let ConfiguredFiles { cloud, certificates, images } = files;
        let Static { attach, tls, appliance, membership, .. } = &self.static_parts;
        let cinder = cloud.map(|cloud| build_cinder(cloud, appliance.metrics.clone()));
        attach.configure(cinder, build_policy(config));
        log_warnings(config);
        log_images(&images);
        membership.update(|announcement| announce_configuration(announcement, config, &images));
        self.services.send_replace(Services::new(config, images, &self.static_parts));
        self.static_parts.spawn_network_check(config);
        tls.set_certificates(certificates);
        log::configure(&config.log);
    }
}

impl Static {
    /// Logs in the background which networks of machines are behind a router and not named.
    fn spawn_network_check(&self, config: &Config) {
        let (timeline, neighbours) = (self.timeline.clone(), self.neighbours.clone());
        tokio::spawn(log_unnamed_networks(timeline, config.requesters.clone(), neighbours));
    }
}

fn log_warnings(config: &Config) {
    for warning in config.warnings().into_iter().chain(find_missing_interfaces(config)) {
        tracing::warn!(%warning, "configuration warning");
    }
}

fn log_images(images: &Images) {
    for image in images.available() {
        let (name, path, size) = (image.name, image.path.display(), image.content.len());
        tracing::info!(name, %path, size, "iPXE binary");
    }
    for missing in images.missing() {
        let (name, firmware) = (missing.name, missing.firmware);
        tracing::warn!(name, firmware, install = missing.packages, "iPXE binary not found");
    }
}

impl Services {
    fn new(config: &Config, images: Images, static_parts: &Static) -> Self {
        let Static {
            auth,
            inventory,
            known_ports,
            attach,
            power,
            volume_checks,
            fallback_watch,
            timeline,
            neighbours,
            preflight,
            http,
            tftp,
            tls: _,
            membership,
            appliance,
        } = static_parts;
        let hostname = membership.name().to_string();
        let enabled = config.enabled_storage_interfaces.clone();
        let boot = Boot::new(inventory.clone(), attach.clone(), timeline.loop_detector(), enabled.clone())
            .with_requesters(config.requesters.clone(), neighbours.clone())
            .with_fallbacks(build_fallback_policy(&config.boot), fallback_watch.clone())
            .with_window(config.boot.window_policy())
            .with_preflight(preflight.clone());
        preflight.configure(config.boot.preflight);
        fallback_watch.set_proxies(config.http.trusted_proxies.clone());
        let operator = Arc::new(Operator {
            inventory: inventory.clone(),
            boot: boot.clone(),
            attach: attach.clone(),
            power: power.clone(),
            volume_checks: volume_checks.clone(),
            timeline: timeline.clone(),
            images: images.clone(),
            scripts: config.boot,
            enabled_storage_interfaces: enabled,
            default_storage_interface: config.default_storage_interface.clone(),
            keep_targets_on_undeploy: config.keep_targets_on_undeploy,
            membership: membership.clone(),
            conductor: Conductor {
                hostname,
                group: config.conductor_group.clone(),
                hardware: config.hardware.clone(),
            },
            appliance: appliance.clone(),
        });
        let api = api::router(Arc::clone(&operator), auth.clone());
        let pages = web::router(operator, auth.clone());
        let operator = BrowserGuard::new(&config.api.hosts).wrap(pages.fallback_service(api));
        let allow = config.tftp_allow().to_vec();
        let files = MachineFiles::new(images.clone(), config.http.url.clone(), *http, allow, timeline);
        let offers = Arc::new(MachineOffers {
            inventory: inventory.clone(),
            known_ports: known_ports.clone(),
            nodes: NodeCache::default(),
            images: images.clone(),
            config: config.dhcp.clone(),
            boot_url: BootUrl::new(config.http.url.clone(), *http),
            tftp: tftp.clone(),
        });
        let boot = http::router(HttpState::new(
            boot,
            config.boot,
            &config.http,
            images,
            timeline.clone(),
            neighbours.clone(),
        ));
        Self { offers, files, boot, operator }
    }
}

fn build_fallback_policy(config: &BootConfig) -> FallbackPolicy {
    FallbackPolicy { after: config.fallback_after, min_uptime: config.fallback_min_uptime }
}

/// Reads from the current services' files.
struct CurrentFiles(watch::Receiver<Services>);

impl FileSource for CurrentFiles {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        self.0.borrow().files.read(request)
    }

    fn allows(&self, client: IpAddr) -> bool {
        self.0.borrow().files.allows(client)
    }
}

/// Uses the current services' policy.
struct CurrentOffers(watch::Receiver<Services>);

impl CurrentOffers {
    fn current(&self) -> Arc<MachineOffers> {
        Arc::clone(&self.0.borrow().offers)
    }
}

impl BootPolicy for CurrentOffers {
    type Note = OfferNote;

    fn serves_interface(&self, name: &str) -> bool {
        self.current().serves_interface(name)
    }

    fn serves_relay(&self, relay: Ipv4Addr) -> bool {
        self.current().serves_relay(relay)
    }

    async fn decide(&self, client: &NetbootClient) -> (Option<NamedFile>, OfferNote) {
        let offers = self.current();
        offers.decide(client).await
    }
}
