//! TLS for a listener: hot-reloaded certificates, and the handling of plain HTTP.
//!
//! The files are polled, because ACME clients and other programs renew certificates without notifying volboot. An
//! invalid certificate never replaces a valid one: the log states the cause, and the previous certificate stays in
//! use.
//!
//! The first byte of a connection distinguishes TLS from plain HTTP. The boot listener serves both, because only some
//! builds of iPXE support TLS and a site may have several builds. The operator listener refuses plain HTTP, because
//! its clients send passwords.
//!
//! Left out on purpose: client certificates, HTTP/2, TLS 1.1 and older.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;

use super::stream::TrackedStream;

/// The interval of polling the files. A change is read once two polls see the same state, so that a file is not read
/// while it is being written.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Rate limit of the warning about a failed handshake: a client must not be able to fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);
/// The first byte of a TLS connection: a handshake record (RFC 8446, §5.1). No HTTP request begins with this byte.
const HANDSHAKE: u8 = 22;

/// A TCP connection with a write time-out.
pub(super) type RawStream = Pin<Box<TimeoutStream<TrackedStream>>>;
/// A connection for HTTP, with or without TLS.
pub(super) type HttpStream = Either<RawStream, TlsStream<RawStream>>;

/// The handling of plain HTTP by a listener with a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// Plain HTTP is served like HTTPS.
    Allowed,
    /// Every request is answered with a message that TLS is required.
    Refused,
}

/// A certificate with its matching key.
#[derive(Clone)]
pub struct Certificate {
    files: CertificateFiles,
    state: FileState,
    config: Arc<ServerConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct CertificateFiles {
    certificate: PathBuf,
    key: PathBuf,
}

/// The metadata of both files; a change of a file changes it.
type FileState = [(u64, i64, i64, u64); 2];

/// The reason that a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// Reading a file failed.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// A file does not have the expected PEM section.
    #[error("cannot find a {section} in {}: {error}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The expected section.
        section: &'static str,
        /// The cause.
        error: pem::Error,
    },
    /// Certificate and key do not match, or their algorithm is not supported.
    #[error("cannot use certificate {} with key {}: {error}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The cause.
        error: rustls::Error,
    },
}

impl Certificate {
    /// Reads both PEM files: the certificate chain, the listener's own certificate first, and its key.
    pub fn read_blocking(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = CertificateFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        // The state is taken before the files are read, so that the next poll detects a change in between.
        let state = files.state()?;
        files.read(state)
    }
}

impl CertificateFiles {
    fn state(&self) -> Result<FileState, CertificateError> {
        let state_of = |path: &Path| {
            let metadata = fs::metadata(path);
            metadata
                .map(|file| (file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
                .map_err(|error| CertificateError::Read { path: path.to_owned(), error })
        };
        Ok([state_of(&self.certificate)?, state_of(&self.key)?])
    }

    fn read(&self, state: FileState) -> Result<Certificate, CertificateError> {
        let read_file = |path: &Path| {
            fs::read(path).map_err(|error| CertificateError::Read { path: path.to_owned(), error })
        };
        let pem_error =
            |path: &Path, section, error| CertificateError::Pem { path: path.to_owned(), section, error };
        let chain = CertificateDer::pem_slice_iter(&read_file(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
            .map_err(|error| pem_error(&self.certificate, "certificate", error))?;
        let key = PrivateKeyDer::from_pem_slice(&read_file(&self.key)?)
            .map_err(|error| pem_error(&self.key, "private key", error))?;
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
                .map_err(|error| CertificateError::Pair {
                    certificate: self.certificate.clone(),
                    key: self.key.clone(),
                    error,
                })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Certificate { files: self.clone(), state, config: Arc::new(config) })
    }
}

/// The TLS configuration of one listener, with its current certificate. Clones share it.
#[derive(Clone)]
pub struct Tls {
    certificate: Arc<watch::Sender<Option<Certificate>>>,
    plain_http: PlainHttp,
    /// The time of the last warning about a failed handshake.
    last_warning: Arc<Mutex<Option<Instant>>>,
}

impl Tls {
    /// For a listener with this certificate; without one, the listener serves plain HTTP only.
    pub fn new(certificate: Option<Certificate>, plain_http: PlainHttp) -> Self {
        let certificate = Arc::new(watch::Sender::new(certificate));
        Self { certificate, plain_http, last_warning: Arc::default() }
    }

    /// Sets or removes the certificate for new connections.
    pub fn set_certificate(&self, certificate: Option<Certificate>) {
        self.certificate.send_replace(certificate);
    }

    /// Polls the files until `stop`, and reloads the certificate when they change.
    pub(super) async fn watch_files(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(POLL_INTERVAL);
        let mut watcher = FileWatcher::default();
        let watching = async {
            loop {
                interval.tick().await;
                let Some(current) = self.certificate.borrow().clone() else { continue };
                let mut task_watcher = std::mem::take(&mut watcher);
                let poll =
                    tokio::task::spawn_blocking(move || (task_watcher.poll_blocking(&current), task_watcher));
                let Ok((change, task_watcher)) = poll.await else { continue };
                watcher = task_watcher;
                match change {
                    Some(Ok(certificate)) => self.replace(certificate),
                    Some(Err(error)) => tracing::error!(
                        error = %error,
                        "cannot reload the certificate: the previous certificate stays in use"
                    ),
                    None => {}
                }
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    /// Replaces the certificate, unless the configuration has named other files in the meantime.
    fn replace(&self, certificate: Certificate) {
        let path = certificate.files.certificate.display().to_string();
        let was_replaced = self.certificate.send_if_modified(|current| match current {
            Some(current) if current.files == certificate.files => {
                *current = certificate;
                true
            }
            _ => false,
        });
        if was_replaced {
            tracing::info!(path, "certificate reloaded");
        }
    }

    /// Detects the protocol of a new connection, and performs the TLS handshake. `None` if the handshake fails or
    /// exceeds `limit`; a failure is logged.
    pub(super) async fn accept(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        limit: Duration,
        raw: impl FnOnce(TcpStream) -> RawStream,
    ) -> Option<(HttpStream, Protocol)> {
        let config = self.certificate.borrow().as_ref().map(|current| Arc::clone(&current.config));
        let Some(config) = config else { return Some((Either::Left(raw(stream)), Protocol::Http)) };
        let deadline = Instant::now() + limit;
        let mut first = [0];
        // A silent connection is no failed handshake: browsers open spare connections, and monitoring probes the
        // port.
        let length = timeout_at(deadline, stream.peek(&mut first)).await.ok()?.ok()?;
        if length == 0 || first != [HANDSHAKE] {
            let protocol = match self.plain_http {
                PlainHttp::Allowed => Protocol::Http,
                PlainHttp::Refused => Protocol::HttpRefused,
            };
            return Some((Either::Left(raw(stream)), protocol));
        }
        let error = match timeout_at(deadline, TlsAcceptor::from(config).accept(raw(stream))).await {
            Ok(Ok(stream)) => return Some((Either::Right(stream), Protocol::Https)),
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        self.log_handshake_failure(remote, &error);
        None
    }

    /// Logs a failed handshake. iPXE closes the connection without a message if it does not trust the certificate, so
    /// this line is the only trace of the machine. The warning is rate limited.
    fn log_handshake_failure(&self, remote: SocketAddr, error: &io::Error) {
        let mut last_warning = self.last_warning.lock();
        if last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL) {
            *last_warning = Some(Instant::now());
            tracing::warn!(%remote, %error, "TLS handshake failed");
        } else {
            tracing::debug!(%remote, %error, "TLS handshake failed");
        }
    }
}

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
    /// Plain HTTP on a listener that requires TLS.
    HttpRefused,
}

/// Detects changes of the certificate files.
#[derive(Default)]
struct FileWatcher {
    /// The result of the last poll.
    last: Option<Result<FileState, String>>,
    /// The state of the last poll has been read already.
    processed: bool,
}

impl FileWatcher {
    /// Polls the files, and reads them if they differ from `current`. Each state is read once, at the second poll
    /// that sees it.
    fn poll_blocking(&mut self, current: &Certificate) -> Option<Result<Certificate, CertificateError>> {
        let result = current.files.state();
        let state = result.as_ref().copied().map_err(ToString::to_string);
        if state == Ok(current.state) {
            *self = Self::default();
        } else if self.last.as_ref() != Some(&state) {
            *self = Self { last: Some(state), processed: false };
        } else if !std::mem::replace(&mut self.processed, true) {
            return Some(result.and_then(|state| current.files.read(state)));
        }
        None
    }
}
