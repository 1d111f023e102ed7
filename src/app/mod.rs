//! Assembly: configuration → parts → listeners → drain. The only module that sees all others.
//!
//! [`App::new`] opens the store and binds every socket, so that what can fail fails before anything is served;
//! [`App::run`] serves until it is told to stop, and ends in order. Between the two it may be given another
//! configuration, as often as its operator likes.

mod doors;
mod files;
mod manager;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, ConfigError};
use crate::images::Images;
use crate::listen::{Limits, Listener};
use crate::store::{Inventory, OpenError, RedbStore, Store, StoreError};
use crate::tftp;
use doors::Doors;

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

/// All parts, ready to serve.
pub struct App {
    config: Config,
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
        let tftp = tftp::Listener::bind(address).map_err(|source| StartError::Bind {
            door: "tftp",
            address,
            source,
        })?;
        let http = bind("http")(config.http.listen)?;
        let api = bind("api")(config.api.listen)?;
        let store = RedbStore::open(&config.store.path)?;
        let images = find_images(&config.tftp.images);
        Ok(Self { config, store: Arc::new(store), images, tftp, http, api })
    }

    /// Serves until `stop`; then refuses newcomers, lets what runs end, and closes the store. What comes by
    /// `reloads` takes the place of the configuration it was made with.
    pub async fn run(
        self,
        stop: CancellationToken,
        mut reloads: mpsc::Receiver<Result<Config, ConfigError>>,
    ) -> Result<(), StoreError> {
        let Self { config, store, images, tftp, http, api } = self;
        let http_address = http.local_addr();
        for (door, address) in
            [("tftp", tftp.local_addr().ok()), ("http", Some(http_address)), ("api", Some(api.local_addr()))]
        {
            tracing::info!(door, address = address.map(tracing::field::display), "listening");
        }

        let mut doors = Doors::new(config, images, Inventory::new(Arc::clone(&store)), http_address);
        let (files, machines, people) = (doors.files(), doors.machines(), doors.people());

        let tasks = TaskTracker::new();
        let (events, told) = mpsc::channel(TFTP_EVENTS);
        tasks.spawn(tell(told));
        tasks.spawn({
            let stop = stop.clone();
            async move {
                if let Err(error) = tftp.serve(Arc::new(files), events, stop.clone(), GRACE).await {
                    // Machines cannot start without it: end, and let the service manager start anew.
                    tracing::error!(error = %error, "the TFTP door failed");
                    stop.cancel();
                }
            }
        });
        tasks.spawn(http.serve(machines, Limits::default(), stop.clone(), GRACE));
        tasks.spawn(api.serve(people, Limits::default(), stop.clone(), GRACE));
        tasks.spawn(manager::keep_alive(stop.clone()));
        tasks.close();
        manager::ready();
        tracing::info!("ready");

        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(read) = reloads.recv() => doors.reload(read).await,
            }
        }
        manager::stopping();
        tracing::info!("stopping");
        tasks.wait().await;
        store.close().await?;
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
async fn tell(mut events: mpsc::Receiver<tftp::Event>) {
    while let Some(event) = events.recv().await {
        let millis = event.took.as_millis() as u64;
        let (client, name, size) = (event.client, event.name.as_str(), event.size);
        tracing::info!(%client, name, outcome = event.outcome.as_str(), size, millis, "tftp transfer");
    }
}
