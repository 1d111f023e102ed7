//! TLS for a door: the certificate it shows, exchanged while it is open, and what becomes of who speaks none.
//!
//! A certificate is renewed by programs that know nothing of volboot, so its files are looked at again and again. What
//! cannot be used never takes the place of what can: a log line says why, and the old one stays.
//!
//! Both doors tell TLS from plain HTTP by the first byte. Machines are answered either way, since few builds of iPXE speak
//! TLS and a site has all sorts of them; people, who bring passwords, are told to come by https.
//!
//! Left out on purpose: client certificates, HTTP/2, TLS 1.1 and older.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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

/// How often the files are looked at. They count once they are the same twice, so that nothing is read half written.
const LOOK: Duration = Duration::from_secs(2);
/// How often the log tells of a handshake that failed. Who wants to fill it is not helped to.
const TOLD: Duration = Duration::from_secs(1);
/// The first byte of TLS, a handshake record (RFC 8446, §5.1), which no HTTP request begins with.
const HANDSHAKE: u8 = 22;

/// A connection's bytes, with the limits of silence.
pub(super) type Raw = Pin<Box<TimeoutStream<TcpStream>>>;
/// A connection on which HTTP is spoken, within TLS or without.
pub(super) type Spoken = Either<Raw, TlsStream<Raw>>;

/// What a door does with plain HTTP when it has a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plain {
    /// Answers it like TLS.
    Answered,
    /// Answers every request by saying that it has to come by TLS.
    Refused,
}

/// A certificate and its key, read and found to belong together.
#[derive(Clone)]
pub struct Certificate {
    files: Files,
    version: Version,
    config: Arc<ServerConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What changes when one of the files does.
type Version = [(u64, i64, i64, u64); 2];

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{}: there is no {what} in it ({error})", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is looked for.
        what: &'static str,
        /// Why not.
        error: pem::Error,
    },
    /// The two do not belong together, or are of a kind that is not known.
    #[error("{} and {} cannot be used: {error}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        error: rustls::Error,
    },
}

impl Certificate {
    /// Reads both files, PEM: a chain of certificates, the door's own first, and its key.
    pub fn read_blocking(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        // Before they are read: what changes meanwhile is seen at the next look.
        let version = files.version()?;
        files.read(version)
    }
}

impl Files {
    fn version(&self) -> Result<Version, CertificateError> {
        let of = |path: &Path| {
            let metadata = fs::metadata(path);
            metadata
                .map(|file| (file.ino(), file.mtime(), file.mtime_nsec(), file.len()))
                .map_err(|error| CertificateError::Read { path: path.to_owned(), error })
        };
        Ok([of(&self.certificate)?, of(&self.key)?])
    }

    fn read(&self, version: Version) -> Result<Certificate, CertificateError> {
        let bytes = |path: &Path| {
            fs::read(path).map_err(|error| CertificateError::Read { path: path.to_owned(), error })
        };
        let pem = |path: &Path, what, error| CertificateError::Pem { path: path.to_owned(), what, error };
        let chain = CertificateDer::pem_slice_iter(&bytes(&self.certificate)?)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
            .map_err(|error| pem(&self.certificate, "certificate", error))?;
        let key = PrivateKeyDer::from_pem_slice(&bytes(&self.key)?)
            .map_err(|error| pem(&self.key, "private key", error))?;
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
        Ok(Certificate { files: self.clone(), version, config: Arc::new(config) })
    }
}

/// Whether a door speaks TLS, and with which certificate at the moment. Clones are of the same door.
#[derive(Clone)]
pub struct Tls {
    shown: Arc<watch::Sender<Option<Certificate>>>,
    plain: Plain,
    /// When the log last told of a handshake that failed.
    told: Arc<Mutex<Option<Instant>>>,
}

impl Tls {
    /// For a door that shows `certificate`; without one it speaks plain HTTP.
    pub fn new(certificate: Option<Certificate>, plain: Plain) -> Self {
        Self { shown: Arc::new(watch::Sender::new(certificate)), plain, told: Arc::default() }
    }

    /// Shows another certificate, or none, to whoever connects from now on.
    pub fn show(&self, certificate: Option<Certificate>) {
        self.shown.send_replace(certificate);
    }

    /// Looks until `stop` whether the files have been renewed, and shows what they hold then.
    pub async fn renew(self, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        let mut look = Look::default();
        let watching = async {
            loop {
                looks.tick().await;
                let Some(shown) = self.shown.borrow().clone() else { continue };
                let mut again = std::mem::take(&mut look);
                let looked = tokio::task::spawn_blocking(move || (again.again_blocking(&shown), again)).await;
                let Ok((renewed, after)) = looked else { continue };
                look = after;
                match renewed {
                    Some(Ok(certificate)) => self.replace(certificate),
                    Some(Err(error)) => tracing::error!(
                        error = %error,
                        "the certificate has changed and cannot be used: the one before it is still shown"
                    ),
                    None => {}
                }
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    /// Shows what the same files hold now, unless the configuration names others meanwhile.
    fn replace(&self, renewed: Certificate) {
        let path = renewed.files.certificate.display().to_string();
        let replaced = self.shown.send_if_modified(|shown| match shown {
            Some(shown) if shown.files == renewed.files => {
                *shown = renewed;
                true
            }
            _ => false,
        });
        if replaced {
            tracing::info!(path, "a renewed certificate is shown");
        }
    }

    /// Finds out what a new connection speaks, and has its handshake done. None if nothing comes of it within `limit`,
    /// which the log tells of.
    pub(super) async fn open(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        limit: Duration,
        raw: impl FnOnce(TcpStream) -> Raw,
    ) -> Option<(Spoken, Speech)> {
        let config = self.shown.borrow().as_ref().map(|shown| Arc::clone(&shown.config));
        let Some(config) = config else { return Some((Either::Left(raw(stream)), Speech::Plain)) };
        let deadline = Instant::now() + limit;
        let mut first = [0];
        // Who says nothing wants no TLS: browsers connect for later, and monitoring for nothing.
        let said = timeout_at(deadline, stream.peek(&mut first)).await.ok()?.ok()?;
        if said == 0 || first != [HANDSHAKE] {
            let speech = if self.plain == Plain::Answered { Speech::Plain } else { Speech::Refused };
            return Some((Either::Left(raw(stream)), speech));
        }
        let error = match timeout_at(deadline, TlsAcceptor::from(config).accept(raw(stream))).await {
            Ok(Ok(stream)) => return Some((Either::Right(stream), Speech::Tls)),
            Ok(Err(error)) => error,
            Err(elapsed) => elapsed.into(),
        };
        self.tell_of_failure(remote, &error);
        None
    }

    /// iPXE says nothing when it does not trust a certificate: it goes, and without a line of ours nobody would know of
    /// that machine. One line in a while is enough.
    fn tell_of_failure(&self, remote: SocketAddr, error: &io::Error) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= TOLD) {
            *told = Some(Instant::now());
            tracing::warn!(%remote, %error, "no TLS came about");
        } else {
            tracing::debug!(%remote, %error, "no TLS came about");
        }
    }
}

/// What is spoken on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speech {
    /// HTTP.
    Plain,
    /// HTTP in TLS.
    Tls,
    /// HTTP where it has to be TLS.
    Refused,
}

/// What the files were at the last look, or why that could not be told.
#[derive(Default)]
struct Look {
    last: Option<Result<Version, String>>,
    judged: bool,
}

impl Look {
    /// Looks again: what the files hold, if they are others than those that are shown. Each state of theirs is judged
    /// once, at the second look at it.
    fn again_blocking(&mut self, shown: &Certificate) -> Option<Result<Certificate, CertificateError>> {
        let now = shown.files.version();
        let state = now.as_ref().copied().map_err(ToString::to_string);
        if state == Ok(shown.version) {
            *self = Self::default();
        } else if self.last.as_ref() != Some(&state) {
            *self = Self { last: Some(state), judged: false };
        } else if !std::mem::replace(&mut self.judged, true) {
            return Some(now.and_then(|version| shown.files.read(version)));
        }
        None
    }
}
