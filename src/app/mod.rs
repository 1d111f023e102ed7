//! Assembly: configuration → parts → listeners → drain. The only module that sees all others.
//!
//! [`App::new`] opens the store and binds every socket, so that what can fail fails before anything is served;
//! [`App::run`] serves until it is told to stop, and ends in order.

mod files;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState};
use crate::auth::{Auth, HtpasswdError};
use crate::boot::Boot;
use crate::config::{self, Config};
use crate::http::{self, Machines};
use crate::images::Images;
use crate::listen::{Limits, Listener};
use crate::store::{Inventory, OpenError, RedbStore, Store, StoreError};
use crate::tftp;
use files::MachineFiles;

/// How long running transfers and requests may take to end after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// Events of the TFTP door that may wait to be told.
const TFTP_EVENTS: usize = 1024;

/// volboot could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The password file cannot be used.
    #[error(transparent)]
    Passwords(#[from] HtpasswdError),
    /// A socket cannot be had.
    #[error("cannot listen on {address} ({door})")]
    Bind {
        /// Which listener it is for: `tftp`, `http` or `api`.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// volboot could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The TFTP door failed.
    #[error("the TFTP door failed")]
    Tftp(#[source] io::Error),
    /// Another door failed.
    #[error("a door failed: {0}")]
    Door(String),
    /// The store failed. It has to be opened anew.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All parts, ready to serve.
pub struct App {
    config: Config,
    auth: Auth,
    store: Arc<dyn Store>,
    images: Images,
    tftp: tftp::Listener,
    http: Listener,
    api: Listener,
}

impl App {
    /// Opens the store and binds every socket. Must be called within a runtime.
    pub fn new(config: Config) -> Result<Self, StartError> {
        let bind = |door| {
            move |address: SocketAddr| {
                Listener::bind(address).map_err(|source| StartError::Bind { door, address, source })
            }
        };
        let address = config.tftp.listen;
        let tftp = tftp::Listener::bind(&tftp::Config::new([address]))
            .map_err(|source| StartError::Bind { door: "tftp", address, source })?;
        let http = bind("http")(config.http.listen)?;
        let api = bind("api")(config.api.listen)?;
        let auth = match config.api.auth {
            config::Auth::None => Auth::Anybody,
            config::Auth::HttpBasic => Auth::http_basic(&config.api.htpasswd_file)?,
        };
        let store = RedbStore::open(&config.store.path)?;
        let images = find_images(&config.tftp.images);
        Ok(Self { config, auth, store: Arc::new(store), images, tftp, http, api })
    }

    /// Serves until `stop`; then refuses newcomers, lets what runs end, and closes the store.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Self { config, auth, store, images, tftp, http, api } = self;
        let http_address = http.local_addr();
        for (door, address) in [
            ("tftp", tftp.local_addrs().first().copied()),
            ("http", Some(http_address)),
            ("api", Some(api.local_addr())),
        ] {
            tracing::info!(door, address = address.map(tracing::field::display), "listening");
        }

        let inventory = Inventory::new(Arc::clone(&store));
        let people = api::router(ApiState {
            inventory: inventory.clone(),
            enabled_storage_interfaces: config.enabled_storage_interfaces.clone(),
            default_storage_interface: config.default_storage_interface.clone(),
            auth,
            keep_targets_on_undeploy: config.keep_targets_on_undeploy,
        });
        let boot = Boot::new(inventory, config.enabled_storage_interfaces.clone());
        let files = MachineFiles::new(images.clone(), config.http.url.clone(), http_address);
        let machines = http::router(Machines::new(boot, config.boot, &config.http, images));

        let (events, transfers) = mpsc::channel(TFTP_EVENTS);
        tokio::spawn(log_transfers(transfers));
        let mut doors = JoinSet::new();
        let files = Arc::new(files);
        doors.spawn({
            let stop = stop.clone();
            async move { tftp.serve(files, events, stop, GRACE).await.map_err(RunError::Tftp) }
        });
        // The API has a limit of its own, and answers in its own form who exceeds it.
        let people_limits = Limits { body: 2 * Limits::default().body, ..Limits::default() };
        for (listener, router, limits) in [(http, machines, Limits::default()), (api, people, people_limits)]
        {
            let served = listener.serve(router, limits, stop.clone(), GRACE);
            doors.spawn(async move {
                served.await;
                Ok(())
            });
        }
        tracing::info!("ready");

        // Whatever ends before it was told to has failed, and the rest is of no use without it: a service manager
        // that starts all anew is.
        let failure = tokio::select! {
            // Asked first: a door that was told to stop may have ended by now.
            biased;
            () = stop.cancelled() => None,
            Some(ended) = doors.join_next() => Some(match ended {
                Ok(Err(error)) => error,
                Ok(Ok(())) => RunError::Door("it ended by itself".into()),
                Err(panicked) => RunError::Door(panicked.to_string()),
            }),
            error = store.failed() => Some(RunError::Store(error)),
        };
        tracing::info!("stopping");
        stop.cancel();
        // Each door takes no longer than the grace.
        while doors.join_next().await.is_some() {}
        match (failure, store.close().await) {
            (Some(failure), _) => return Err(failure),
            (None, closed) => closed?,
        }
        tracing::info!("stopped");
        Ok(())
    }
}

fn find_images(directories: &[PathBuf]) -> Images {
    let images = Images::find(directories);
    for image in images.found() {
        let (name, path, size) = (image.name, image.path.display(), image.content.len());
        tracing::info!(name, %path, size, "iPXE binary");
    }
    for missing in images.missing() {
        let (name, firmware) = (missing.name, missing.firmware);
        tracing::warn!(name, firmware, install = missing.packages, "iPXE binary not found");
    }
    images
}

/// One line per transfer.
async fn log_transfers(mut transfers: mpsc::Receiver<tftp::Event>) {
    while let Some(event) = transfers.recv().await {
        let millis = event.took.as_millis() as u64;
        let (client, name, size) = (event.client, event.name.as_str(), event.size);
        let (outcome, again) = (event.outcome.as_str(), event.retransmissions);
        tracing::info!(%client, name, outcome, size, again, millis, "tftp transfer");
    }
}
