//! What stands behind the doors: made whole from one configuration, and exchanged whole when there is another.
//!
//! The sockets stay, and so do connections and transfers: each request is answered by what stands there when it
//! comes, and ends with what it began with.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::Request;
use bytes::Bytes;
use tokio::sync::watch;
use tower::{ServiceExt, service_fn};

use super::cloud::{cinder, policy, resolved};
use super::files::MachineFiles;
use super::tls::{Certificates, DoorsTls};
use super::{find_images, manager};
use crate::api::{self, ApiState, Watch};
use crate::attach::Attach;
use crate::auth::{Auth, Browsers};
use crate::boot::Boot;
use crate::config::{self, Config, ConfigError};
use crate::http::{self, Machines};
use crate::images::Images;
use crate::store::Inventory;
use crate::telemetry::log;
use crate::tftp::{Files, ReadRequest};
use crate::web::{self, WebState};

/// Everything that a configuration decides, save what is fixed while volboot runs.
struct Behind {
    files: MachineFiles,
    machines: Router,
    people: Router,
}

/// What no configuration changes while volboot runs.
pub(super) struct Fixed {
    pub(super) auth: Auth,
    pub(super) inventory: Inventory,
    pub(super) attach: Attach,
    /// Where the machines' door is bound.
    pub(super) http: SocketAddr,
    /// What both HTTP doors show.
    pub(super) tls: DoorsTls,
    /// What people can see of all this, with the first configuration.
    pub(super) watch: Watch,
}

/// The doors and what stands behind them now.
pub(super) struct Doors {
    /// The configuration that volboot was started with: what is fixed is as it says.
    started: Config,
    fixed: Fixed,
    behind: watch::Sender<Behind>,
}

impl Doors {
    pub(super) fn new(config: Config, images: Images, fixed: Fixed) -> Self {
        let behind = watch::Sender::new(Behind::new(&config, images, &fixed));
        Self { started: config, fixed, behind }
    }

    /// What firmware reads, whatever stands behind it at the time.
    pub(super) fn files(&self) -> impl Files + use<> {
        CurrentFiles(self.behind.subscribe())
    }

    /// The machines' routes, whatever stands behind them at the time.
    pub(super) fn machines(&self) -> Router {
        self.current(|behind| &behind.machines)
    }

    /// The people's routes, whatever stands behind them at the time.
    pub(super) fn people(&self) -> Router {
        self.current(|behind| &behind.people)
    }

    fn current(&self, of: fn(&Behind) -> &Router) -> Router {
        let behind = self.behind.subscribe();
        Router::new().fallback_service(service_fn(move |request: Request| {
            let router = of(&behind.borrow()).clone();
            async move {
                Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {}))
            }
        }))
    }

    /// Puts what a configuration asks for in the place of what is there. One that cannot be used changes nothing.
    pub(super) async fn reload(&mut self, read: Result<Config, ConfigError>) {
        manager::reloading();
        let config = match read {
            Ok(config) => config,
            Err(error) => {
                let cause = error.source().map(tracing::field::display);
                tracing::error!(error = %error, cause, "not reloaded: the previous configuration holds");
                return manager::kept();
            }
        };
        for key in self.started.fixed_keys_that_differ(&config) {
            tracing::warn!(key, "changed in the configuration, but takes effect when volboot is restarted");
        }
        let cloud = config.cinder.cloud.clone();
        let resolved = tokio::task::spawn_blocking(move || resolved(&cloud)).await;
        let cloud = resolved.map_err(|panicked| panicked.to_string());
        let cinder = match cloud.and_then(|cloud| cloud.map_err(|faults| config::all(&faults))) {
            Ok(cloud) => cloud.map(|cloud| cinder(cloud, self.fixed.watch.metrics.clone())),
            Err(error) => {
                tracing::error!(error, "not reloaded: the previous configuration holds");
                return manager::kept();
            }
        };
        let named = config.clone();
        let read = tokio::task::spawn_blocking(move || Certificates::read_blocking(&named)).await;
        let read = read.map_err(|panicked| panicked.to_string());
        let certificates = match read.and_then(|read| read.map_err(|error| error.to_string())) {
            Ok(certificates) => certificates,
            Err(error) => {
                tracing::error!(error, "not reloaded: the previous configuration holds");
                return manager::kept();
            }
        };
        let directories = config.tftp.images.clone();
        let images = tokio::task::spawn_blocking(move || find_images(&directories)).await.unwrap_or_default();
        self.fixed.attach.configure(cinder, policy(&config));
        self.behind.send_replace(Behind::new(&config, images, &self.fixed));
        self.fixed.tls.show(certificates);
        log::configure(&config.log);
        manager::ready();
        tracing::info!("reloaded");
    }
}

impl Behind {
    fn new(config: &Config, images: Images, fixed: &Fixed) -> Self {
        let Fixed { auth, inventory, attach, http, tls: _, watch } = fixed;
        let enabled = config.enabled_storage_interfaces.clone();
        let boot = Boot::new(inventory.clone(), attach.clone(), enabled);
        let timeline = watch.timeline.clone();
        let people = api::router(ApiState {
            inventory: inventory.clone(),
            boot: boot.clone(),
            enabled_storage_interfaces: config.enabled_storage_interfaces.clone(),
            default_storage_interface: config.default_storage_interface.clone(),
            auth: auth.clone(),
            keep_targets_on_undeploy: config.keep_targets_on_undeploy,
            watch: Watch { scripts: config.boot, images: images.clone(), ..watch.clone() },
        });
        let pages = web::router(WebState {
            inventory: inventory.clone(),
            boot: boot.clone(),
            scripts: config.boot,
            attach: attach.clone(),
            timeline: timeline.clone(),
            images: images.clone(),
            auth: auth.clone(),
            doors: watch.doors.clone(),
            store: watch.store.clone(),
            history: watch.history.clone(),
            started: watch.started,
        });
        let people = Browsers::new(&config.api.hosts).guard(pages.fallback_service(people));
        let files = MachineFiles::new(images.clone(), config.http.url.clone(), *http);
        let machines = http::router(Machines::new(boot, config.boot, &config.http, images, timeline));
        Self { files, machines, people }
    }
}

struct CurrentFiles(watch::Receiver<Behind>);

impl Files for CurrentFiles {
    fn read(&self, request: ReadRequest<'_>) -> Option<Bytes> {
        self.0.borrow().files.read(request)
    }
}
