//! Reload: services built from one configuration, and replaced as a whole by the next.
//!
//! Sockets, connections and transfers survive a reload. Each request is handled by the services that are current when
//! it arrives, and finishes with them.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use bytes::Bytes;
use tokio::sync::watch;
use tower::{ServiceExt, service_fn};

use super::cloud::{build_cinder, build_policy, resolve};
use super::tftp::MachineFiles;
use super::tls::{Certificates, ListenerTls};
use super::{find_images, systemd};
use crate::api::{self, ApiState, Monitoring};
use crate::attach::Attach;
use crate::auth::{Auth, BrowserGuard};
use crate::boot::Boot;
use crate::config::{self, Config, ConfigError};
use crate::http::{self, HttpState};
use crate::images::Images;
use crate::store::Inventory;
use crate::telemetry::log;
use crate::tftp::{FileSource, ReadRequest};
use crate::web::{self, WebState};

/// The services behind the listeners, as one configuration defines them.
struct Services {
    files: MachineFiles,
    boot: Router,
    operator: Router,
}

/// The parts that survive a reload.
pub(super) struct Static {
    pub(super) auth: Auth,
    pub(super) inventory: Inventory,
    pub(super) attach: Attach,
    /// The bound address of the boot listener.
    pub(super) http: SocketAddr,
    /// The certificates of both HTTP listeners.
    pub(super) tls: ListenerTls,
    /// The sources of status and metrics, with the first configuration.
    pub(super) monitoring: Monitoring,
}

/// The current services, and the parts from which the next are built.
pub(super) struct Reloadable {
    /// The configuration at start: its restart-only keys stay in effect.
    start_config: Config,
    static_parts: Static,
    services: watch::Sender<Services>,
}

impl Reloadable {
    /// Builds the first services.
    pub(super) fn new(config: Config, images: Images, static_parts: Static) -> Self {
        let services = watch::Sender::new(Services::new(&config, images, &static_parts));
        Self { start_config: config, static_parts, services }
    }

    /// The TFTP server's files; each request reads the current ones.
    pub(super) fn files(&self) -> impl FileSource + use<> {
        CurrentFiles(self.services.subscribe())
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

    /// Replaces the services by those of a new configuration. An invalid configuration changes nothing.
    pub(super) async fn reload(&mut self, config: Result<Config, ConfigError>) {
        systemd::notify_reloading();
        let config = match config {
            Ok(config) => config,
            Err(error) => {
                let cause = error.source().map(tracing::field::display);
                tracing::error!(error = %error, cause, "reload failed; the previous configuration stays in effect");
                return systemd::notify_reload_failed();
            }
        };
        for key in self.start_config.changed_restart_keys(&config) {
            tracing::warn!(key, "configuration key changed; takes effect after a restart");
        }
        let cloud = config.cinder.cloud.clone();
        let cloud = tokio::task::spawn_blocking(move || resolve(&cloud)).await;
        let cloud = cloud.map_err(|error| error.to_string());
        let cinder = match cloud.and_then(|cloud| cloud.map_err(|errors| config::format_diagnostics(&errors)))
        {
            Ok(cloud) => cloud.map(|cloud| build_cinder(cloud, self.static_parts.monitoring.metrics.clone())),
            Err(error) => {
                tracing::error!(error, "reload failed; the previous configuration stays in effect");
                return systemd::notify_reload_failed();
            }
        };
        let tls_config = config.clone();
        let certificates =
            tokio::task::spawn_blocking(move || Certificates::read_blocking(&tls_config)).await;
        let certificates = certificates.map_err(|error| error.to_string());
        let certificates = match certificates.and_then(|result| result.map_err(|error| error.to_string())) {
            Ok(certificates) => certificates,
            Err(error) => {
                tracing::error!(error, "reload failed; the previous configuration stays in effect");
                return systemd::notify_reload_failed();
            }
        };
        let directories = config.tftp.images.clone();
        let images = tokio::task::spawn_blocking(move || find_images(&directories)).await.unwrap_or_default();
        self.static_parts.attach.configure(cinder, build_policy(&config));
        self.services.send_replace(Services::new(&config, images, &self.static_parts));
        self.static_parts.tls.set_certificates(certificates);
        log::configure(&config.log);
        systemd::notify_ready();
        tracing::info!("configuration reloaded");
    }
}

impl Services {
    fn new(config: &Config, images: Images, static_parts: &Static) -> Self {
        let Static { auth, inventory, attach, http, tls: _, monitoring } = static_parts;
        let enabled = config.enabled_storage_interfaces.clone();
        let boot = Boot::new(inventory.clone(), attach.clone(), enabled);
        let timeline = monitoring.timeline.clone();
        let api = api::router(ApiState {
            inventory: inventory.clone(),
            boot: boot.clone(),
            enabled_storage_interfaces: config.enabled_storage_interfaces.clone(),
            default_storage_interface: config.default_storage_interface.clone(),
            auth: auth.clone(),
            keep_targets_on_undeploy: config.keep_targets_on_undeploy,
            monitoring: Monitoring { scripts: config.boot, images: images.clone(), ..monitoring.clone() },
        });
        let pages = web::router(WebState {
            inventory: inventory.clone(),
            boot: boot.clone(),
            scripts: config.boot,
            attach: attach.clone(),
            timeline: timeline.clone(),
            images: images.clone(),
            auth: auth.clone(),
            listeners: monitoring.listeners.clone(),
            store_path: monitoring.store_path.clone(),
            history_path: monitoring.history_path.clone(),
            started_at: monitoring.started_at,
        });
        let operator = BrowserGuard::new(&config.api.hosts).wrap(pages.fallback_service(api));
        let files = MachineFiles::new(images.clone(), config.http.url.clone(), *http);
        let boot = http::router(HttpState::new(boot, config.boot, &config.http, images, timeline));
        Self { files, boot, operator }
    }
}

/// Reads from the current services' files.
struct CurrentFiles(watch::Receiver<Services>);

impl FileSource for CurrentFiles {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        self.0.borrow().files.read(request)
    }
}
