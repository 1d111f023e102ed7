//! [`EtcdClient`]: calls to etcd's members, one connection for each member, turning to the next on a failure.
//!
//! A channel over several members would balance over dead ones, and over those without a leader. So there is one
//! channel for each member, and one member is current. A failure turns to the next member, for all calls.
//!
//! Every call has a time-out for each attempt and a deadline over all attempts. A call that reads or is idempotent is
//! repeated until the deadline. Other calls have one attempt: [`super::write`] finds out what became of them.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use prost::Message;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Response, Streaming};
use tonic_prost::ProstCodec;

use super::error::RpcError;
use super::messages::{AuthenticateRequest, AuthenticateResponse};
use crate::config::EtcdConfig;

/// The time-out of one attempt.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The time-out of one attempt to transfer many records.
const LONG_ATTEMPT: Duration = Duration::from_secs(10);
/// The pause before a repeated call, once every member has failed.
const PAUSE: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_millis(800);
/// etcd ends a connection that pings more often than every five seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(6);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest response: the changes of a thousand revisions, or a page of records.
const MAX_RESPONSE: usize = 256 << 20;
const STREAM_WINDOW: u32 = 2 << 20;

/// The members, and the credentials.
pub(super) struct EtcdClient {
    config: EtcdConfig,
    members: Vec<Member>,
    current: AtomicUsize,
    token: Mutex<Option<String>>,
}

struct Member {
    endpoint: String,
    /// Created at the first call after a failure, so that renewed certificates are read.
    channel: Mutex<Option<Channel>>,
}

/// A call's path, such as `/etcdserverpb.KV/Range`.
pub(super) type CallPath = &'static str;

impl EtcdClient {
    pub(super) fn new(config: EtcdConfig) -> Self {
        let member = |endpoint: &String| Member { endpoint: endpoint.clone(), channel: Mutex::new(None) };
        let members = config.endpoints.iter().map(member).collect();
        Self { config, members, current: AtomicUsize::new(0), token: Mutex::new(None) }
    }

    /// Makes the next member the current one, unless that has happened since `failed` was current.
    pub(super) fn turn_from(&self, failed: usize) {
        let next = (failed + 1) % self.members.len();
        let _ = self.current.compare_exchange(failed, next, Ordering::Relaxed, Ordering::Relaxed);
        // The next call connects anew.
        *self.members[failed].channel.lock() = None;
    }

    /// The number of members.
    pub(super) fn members(&self) -> usize {
        self.members.len()
    }

    /// The current member.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Calls a member once.
    pub(super) async fn call_once<Q, R>(
        &self,
        path: CallPath,
        request: &Q,
        by: Instant,
    ) -> Result<R, RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.attempt(path, request, by.min(Instant::now() + ATTEMPT)).await
    }

    async fn attempt<Q, R>(&self, path: CallPath, request: &Q, by: Instant) -> Result<R, RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let member = self.current();
        let result = self.attempt_at(member, path, request, by).await;
        if let Err(RpcError::Unreachable(_)) = &result {
            self.turn_from(member);
        }
        result
    }

    /// Calls one member once.
    pub(super) async fn call_member<Q, R>(
        &self,
        member: usize,
        path: CallPath,
        request: &Q,
        by: Instant,
    ) -> Result<R, RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.attempt_at(member, path, request, by.min(Instant::now() + ATTEMPT)).await
    }

    async fn attempt_at<Q, R>(
        &self,
        member: usize,
        path: CallPath,
        request: &Q,
        by: Instant,
    ) -> Result<R, RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let endpoint = &self.members[member].endpoint;
        let attempt = async {
            match self.try_call(member, path, request).await {
                Err(RpcError::OldToken) => {
                    *self.token.lock() = None;
                    self.try_call(member, path, request).await
                }
                result => result,
            }
        };
        timeout_at(by, attempt).await.unwrap_or_else(|_| Err(RpcError::timeout(endpoint)))
    }

    /// Calls members until one answers or refuses, or the deadline passes: for idempotent calls.
    pub(super) async fn call<Q, R>(&self, path: CallPath, request: &Q, by: Instant) -> Result<R, RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.repeat(path, request, by, ATTEMPT).await
    }

    /// Calls members like [`EtcdClient::call`], with the time that many records in one message take.
    pub(super) async fn call_long<Q, R>(
        &self,
        path: CallPath,
        request: &Q,
        by: Instant,
    ) -> Result<R, RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        self.repeat(path, request, by, LONG_ATTEMPT).await
    }

    async fn repeat<Q, R>(
        &self,
        path: CallPath,
        request: &Q,
        by: Instant,
        limit: Duration,
    ) -> Result<R, RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let (mut attempts, mut cause) = (0, None);
        loop {
            match self.attempt(path, request, by.min(Instant::now() + limit)).await {
                Err(error) if error.is_unreachable() => {
                    attempts += 1;
                    // The deadline cuts the last attempt short. An earlier one may have failed for a better reason.
                    let error = cause.take().filter(|_| error.is_timeout()).unwrap_or(error);
                    if !self.pause(attempts, by).await {
                        return Err(error);
                    }
                    cause = Some(error);
                }
                result => return result,
            }
        }
    }

    /// Waits before the next attempt; returns whether time is left for it.
    pub(super) async fn pause(&self, attempts: usize, by: Instant) -> bool {
        if attempts.is_multiple_of(self.members.len()) {
            sleep_until(by.min(Instant::now() + PAUSE)).await;
        }
        Instant::now() < by
    }

    /// Opens a stream to the current member; returns it with the member's number. The request's end stays open.
    pub(super) async fn open_stream<Q, R>(
        &self,
        path: CallPath,
        request: Q,
    ) -> Result<(Streaming<R>, usize), RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let member = self.current();
        let endpoint = &self.members[member].endpoint;
        let open = async {
            let mut grpc = self.grpc(member)?;
            let open_end = stream::once(async move { request }).chain(stream::pending());
            let request = self.authorize(Request::new(open_end), member).await?;
            let codec = ProstCodec::<Q, R>::default();
            let unavailable = |error: tonic::transport::Error| RpcError::Unreachable(error.to_string());
            grpc.ready().await.map_err(unavailable)?;
            let response = grpc.streaming(request, PathAndQuery::from_static(path), codec).await;
            response.map(Response::into_inner).map_err(|status| RpcError::from_status(endpoint, &status))
        };
        let opened = timeout_at(Instant::now() + ATTEMPT, open).await;
        let opened = opened.unwrap_or_else(|_| Err(RpcError::timeout(endpoint)));
        match &opened {
            Err(RpcError::Unreachable(_)) => self.turn_from(member),
            Err(RpcError::OldToken) => *self.token.lock() = None,
            _ => {}
        }
        opened.map(|stream| (stream, member))
    }

    /// An error of a stream's member.
    pub(super) fn stream_error(&self, member: usize, status: &tonic::Status) -> RpcError {
        RpcError::from_status(&self.members[member].endpoint, status)
    }

    async fn try_call<Q, R>(&self, member: usize, path: CallPath, request: &Q) -> Result<R, RpcError>
    where
        Q: Message + Clone + 'static,
        R: Message + Default + 'static,
    {
        let request = self.authorize(Request::new(request.clone()), member).await?;
        self.send(member, path, request).await
    }

    async fn send<Q, R>(&self, member: usize, path: CallPath, request: Request<Q>) -> Result<R, RpcError>
    where
        Q: Message + 'static,
        R: Message + Default + 'static,
    {
        let endpoint = &self.members[member].endpoint;
        let mut grpc = self.grpc(member)?;
        grpc.ready().await.map_err(|error| RpcError::Unreachable(format!("{endpoint}: {error}")))?;
        let codec = ProstCodec::<Q, R>::default();
        let response = grpc.unary(request, PathAndQuery::from_static(path), codec).await;
        response.map(Response::into_inner).map_err(|status| RpcError::from_status(endpoint, &status))
    }

    /// Adds the token, if there are credentials; requires a leader, so that a member of a minority refuses at once.
    async fn authorize<T>(&self, mut request: Request<T>, member: usize) -> Result<Request<T>, RpcError> {
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let Some(name) = &self.config.username else { return Ok(request) };
        let known = self.token.lock().clone();
        let token = match known {
            Some(token) => token,
            None => self.authenticate(name, member).await?,
        };
        let value = token.parse().map_err(|_| RpcError::Denied("its token is no header".into()))?;
        request.metadata_mut().insert("token", value);
        Ok(request)
    }

    async fn authenticate(&self, name: &str, member: usize) -> Result<String, RpcError> {
        // Read each time: the password may have changed.
        let password = match &self.config.password_file {
            Some(path) => read(path).await?.trim_end_matches(['\r', '\n']).to_owned(),
            None => String::new(),
        };
        let request = Request::new(AuthenticateRequest { name: name.to_owned(), password });
        let response =
            self.send::<_, AuthenticateResponse>(member, "/etcdserverpb.Auth/Authenticate", request);
        let token = response.await?.token;
        *self.token.lock() = Some(token.clone());
        Ok(token)
    }

    fn grpc(&self, member: usize) -> Result<Grpc<Channel>, RpcError> {
        let mut channel = self.members[member].channel.lock();
        let channel = if let Some(channel) = &*channel {
            channel.clone()
        } else {
            channel.insert(connect_lazy(&self.members[member].endpoint, &self.config)?).clone()
        };
        Ok(Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE))
    }
}

/// The channel of a member; it connects at the first call.
fn connect_lazy(endpoint: &str, config: &EtcdConfig) -> Result<Channel, RpcError> {
    let invalid = |error: tonic::transport::Error| RpcError::Refused(format!("{endpoint}: {error}"));
    let mut channel = Endpoint::from_shared(endpoint.to_owned()).map_err(invalid)?;
    if endpoint.starts_with("https:") {
        channel = channel.tls_config(read_tls(config)?).map_err(invalid)?;
    }
    Ok(channel
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(2 * STREAM_WINDOW)
        .connect_lazy())
}

/// The certificates of the configuration. The files are small, and read at a new connection only.
fn read_tls(config: &EtcdConfig) -> Result<ClientTlsConfig, RpcError> {
    let mut tls = ClientTlsConfig::new();
    tls = match &config.cacert {
        Some(path) => tls.ca_certificate(Certificate::from_pem(read_blocking(path)?)),
        None => tls.with_native_roots(),
    };
    if let (Some(certificate), Some(key)) = (&config.certificate, &config.key) {
        tls = tls.identity(Identity::from_pem(read_blocking(certificate)?, read_blocking(key)?));
    }
    Ok(tls)
}

fn read_blocking(path: &Path) -> Result<String, RpcError> {
    std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))
}

async fn read(path: &Path) -> Result<String, RpcError> {
    let owned = path.to_owned();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(owned)).await;
    let text = text.map_err(|error| RpcError::Refused(error.to_string()))?;
    text.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> RpcError {
    RpcError::Refused(format!("cannot read {}: {error}", path.display()))
}
