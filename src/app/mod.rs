//! Assembly: configuration → parts → listeners → drain. The only module that sees all others.
//!
//! [`App::new`] opens the store and binds every socket, so that what can fail fails before anything is served;
//! [`App::run`] serves until it is told to stop, and ends in order. Between the two it may be given another
//! configuration, as often as its operator likes.

mod cloud;
mod doors;
mod files;
mod manager;
mod sockets;
mod tls;
mod transfers;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::Watch;
use crate::attach::Attach;
use crate::auth::{Auth, HtpasswdError};
use crate::cinder::Cinder;
use crate::config::{self, Config, ConfigError, Fault, HISTORY};
use crate::images::Images;
use crate::keystone::Validator;
use crate::listen::{CertificateError, Limits, Listener};
use crate::store::{Attachments, Inventory, OpenError, RedbStore, Store, StoreError};
use crate::telemetry::Metrics;
use crate::tftp;
use crate::timeline::Timeline;
use doors::{Doors, Fixed};
use sockets::Sockets;
pub use sockets::{Passed, PassedError};
use tls::{Certificates, DoorsTls};

/// How long running transfers and requests may take to end after a stop was asked for.
const GRACE: Duration = Duration::from_secs(10);
/// How long the ends of those transfers may take to be told.
const LAST_TRANSFERS: Duration = Duration::from_secs(2);
/// How long a connection of people may be silent between two requests.
const PATIENCE_WITH_PEOPLE: Duration = Duration::from_secs(75);
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
    /// The cloud cannot be used that the configuration leads to.
    #[error("{}", config::all(.0))]
    Cloud(Vec<Fault>),
    /// A certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The API's socket was passed by a service manager, others can reach it, and nobody is asked who they are.
    #[error(
        "without authentication the API may listen on loopback only, but the socket passed as 'api' is {0}; \
         [api] allow_unauthenticated = true if everybody who reaches it may do everything"
    )]
    Unauthenticated(SocketAddr),
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
    cinder: Option<Cinder>,
    store: Arc<dyn Store>,
    metrics: Metrics,
    timeline: Timeline,
    images: Images,
    tftp: tftp::Listener,
    http: Listener,
    api: Listener,
    tls: DoorsTls,
}

impl App {
    /// Opens the store and binds every socket that was not `passed`. Must be called within a runtime.
    pub fn new(config: Config, passed: Passed) -> Result<Self, StartError> {
        let Sockets { tftp, http, api } = Sockets::open(&config, passed)?;
        let cloud = cloud::resolved(&config.cinder.cloud).map_err(StartError::Cloud)?;
        let auth = match config.api.auth {
            config::Auth::None => Auth::Anybody,
            config::Auth::HttpBasic => Auth::http_basic(&config.api.htpasswd_file)?,
            config::Auth::Keystone => {
                let validator =
                    Validator::resolve(&config.keystone, cloud.as_ref()).map_err(StartError::Cloud)?;
                Auth::keystone(validator, config.api.projects.clone())
            }
        };
        let metrics = Metrics::new();
        let cinder = cloud.map(|cloud| cloud::cinder(cloud, metrics.clone()));
        let store = RedbStore::open(&config.store.path)?;
        // Beside the store, which has made the directory and let nobody else in.
        let timeline = Timeline::open(Some(&history(&config)), metrics.clone());
        let images = find_images(&config.tftp.images);
        let tls = DoorsTls::new(Certificates::read_blocking(&config)?);
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

    /// Serves until `stop`; then refuses newcomers, lets what runs end, and closes the store. What comes by
    /// `reloads` takes the place of the configuration it was made with.
    pub async fn run(
        self,
        stop: CancellationToken,
        mut reloads: mpsc::Receiver<Result<Config, ConfigError>>,
    ) -> Result<(), RunError> {
        let Self { config, auth, cinder, store, metrics, timeline, images, tftp, http, api, tls } = self;
        let http_address = http.local_addr();
        let firmware = tftp.local_addrs().into_iter().map(|address| ("tftp", address));
        let addresses: Vec<_> = firmware.chain([("http", http_address), ("api", api.local_addr())]).collect();
        for (door, address) in &addresses {
            tracing::info!(door, %address, "listening");
        }

        let inventory = Inventory::new(Arc::clone(&store));
        let attachments = Attachments::new(Arc::clone(&store));
        let attach = Attach::new(attachments, cinder, cloud::policy(&config));
        let watch = Watch {
            timeline: timeline.clone(),
            metrics,
            scripts: config.boot,
            attach: attach.clone(),
            images: images.clone(),
            doors: addresses,
            store: config.store.path.clone(),
            history: history(&config),
            transfers: tftp.counters(),
            started: Timestamp::now(),
            stop: stop.clone(),
        };
        let fixed =
            Fixed { auth, inventory, attach: attach.clone(), http: http_address, tls: tls.clone(), watch };
        let mut behind = Doors::new(config, images, fixed);

        let (events, transfers) = mpsc::channel(TFTP_EVENTS);
        let telling = tokio::spawn(transfers::tell(transfers, timeline.clone()));
        let mut doors = JoinSet::new();
        doors.spawn({
            let (files, stop) = (Arc::new(behind.files()), stop.clone());
            async move { tftp.serve(files, events, stop, GRACE).await.map_err(RunError::Tftp) }
        });
        // The API has a limit of its own, and answers in its own form who exceeds it.
        let people = Limits {
            body: 2 * Limits::default().body,
            // Clients that wait for a node ask every ten seconds, over one connection: it must not be closed in the
            // very moment in which they do.
            headers: PATIENCE_WITH_PEOPLE,
            silence: PATIENCE_WITH_PEOPLE,
            ..Limits::default()
        };
        let served =
            [(http, behind.machines(), Limits::default(), tls.http), (api, behind.people(), people, tls.api)];
        for (listener, router, limits, tls) in served {
            tokio::spawn(tls.clone().renew(stop.clone()));
            let served = listener.with_tls(tls).serve(router, limits, stop.clone(), GRACE);
            doors.spawn(async move {
                served.await;
                Ok(())
            });
        }
        let mut reconciling = tokio::spawn(attach.clone().reconcile(stop.clone()));
        tokio::spawn(manager::keep_alive(stop.clone()));
        manager::ready();
        tracing::info!("ready");

        // Whatever ends before it was told to has failed, and the rest is of no use without it: a service manager
        // that starts all anew is.
        let failure = loop {
            tokio::select! {
                // Asked first: a door that was told to stop may have ended by now.
                biased;
                () = stop.cancelled() => break None,
                Some(ended) = doors.join_next() => break Some(match ended {
                    Ok(Err(error)) => error,
                    Ok(Ok(())) => RunError::Door("it ended by itself".into()),
                    Err(panicked) => RunError::Door(panicked.to_string()),
                }),
                ended = &mut reconciling => break Some(match ended {
                    Ok(()) => RunError::Door("the reconciler ended by itself".into()),
                    Err(panicked) => RunError::Door(panicked.to_string()),
                }),
                error = store.failed() => break Some(RunError::Store(error)),
                Some(read) = reloads.recv() => behind.reload(read).await,
            }
        };
        manager::stopping();
        tracing::info!("stopping");
        stop.cancel();
        // Each door takes no longer than the grace.
        while doors.join_next().await.is_some() {}
        if tokio::time::timeout(LAST_TRANSFERS, telling).await.is_err() {
            tracing::warn!("some transfers' ends are in no timeline");
        }
        // No machine asks any more; what Cinder is doing for those that did is given its time.
        attach.drain(GRACE).await;
        if !reconciling.is_finished()
            && let Err(panicked) = reconciling.await
        {
            tracing::error!(error = %panicked, "the reconciler failed");
        }
        // It has limits of its own, and a history that is not written is no reason to fail.
        let _ = tokio::task::spawn_blocking(move || timeline.close_blocking()).await;
        match (failure, store.close().await) {
            (Some(failure), _) => return Err(failure),
            (None, closed) => closed?,
        }
        tracing::info!("stopped");
        Ok(())
    }
}

/// The file of the timelines, beside the store's.
fn history(config: &Config) -> PathBuf {
    config.store.path.with_file_name(HISTORY)
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
