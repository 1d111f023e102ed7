//! [`Bmc`]: authorized requests to one BMC, with the repetitions that the quirks allow.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderValue, IF_MATCH};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;

use super::error::{BmcFault, RedfishError};
use super::http_client::{self, BmcResponse, CallLimits};
use super::login::Login;
use super::message::cut_text;
use super::quirks::{self, CallKind, Quirk};
use super::{BmcAccess, ComputerSystem};

/// How long a request queues for a permit.
const MAX_QUEUE_TIME: Duration = Duration::from_secs(300);
/// The longest path that is taken from a BMC.
const MAX_PATH: usize = 512;

/// A client of one BMC. Keeps its session; the caller makes one call at a time.
#[derive(Debug)]
pub struct Bmc {
    pub(super) access: BmcAccess,
    pub(super) limits: CallLimits,
    http: reqwest::Client,
    /// One permit per concurrent request, shared by the clients of all BMCs.
    permits: Arc<Semaphore>,
    login: Mutex<Option<Login>>,
    /// The path of the system, once known.
    system: Mutex<Option<String>>,
}

impl Bmc {
    /// Builds a client; connects to nothing yet. Each request takes one of the `permits`. Needs a TLS provider for the
    /// process.
    pub async fn new(
        access: BmcAccess,
        limits: CallLimits,
        permits: Arc<Semaphore>,
    ) -> Result<Self, RedfishError> {
        let http = http_client::build(&access.trust, limits).await;
        let http = http.map_err(|fault| RedfishError { bmc: access.address.clone(), fault })?;
        let system = Mutex::new(access.system.clone());
        Ok(Self { access, limits, http, permits, login: Mutex::default(), system })
    }

    /// Address and credentials.
    pub fn access(&self) -> &BmcAccess {
        &self.access
    }

    /// Reads the system.
    pub async fn read_system(&self) -> Result<ComputerSystem, RedfishError> {
        self.find_and_read_system().await.map_err(|fault| self.error(fault))
    }

    /// Ends the session, if there is one. A failure is of no consequence: sessions expire.
    pub async fn log_out(&self) {
        let login = self.login.lock().await.take();
        if let Some(Login::Session(token, Some(path))) = login {
            let login = Login::Session(token, None);
            drop(self.send(Method::DELETE, &path, None, &login, None).await);
        }
    }

    pub(super) fn error(&self, fault: BmcFault) -> RedfishError {
        RedfishError { bmc: self.access.address.clone(), fault }
    }

    pub(super) async fn find_and_read_system(&self) -> Result<ComputerSystem, BmcFault> {
        let path = self.find_system().await?;
        let (value, etag) = self.get(&path).await.map_err(|fault| match fault {
            BmcFault::Refused { status: 404, .. } => BmcFault::NotFound(format!("system {path}")),
            other => other,
        })?;
        ComputerSystem::parse(path.clone(), &value, etag)
            .ok_or_else(|| BmcFault::invalid(&format!("GET {path}"), "no ComputerSystem"))
    }

    /// The path of the system: configured, or the only one of the BMC.
    async fn find_system(&self) -> Result<String, BmcFault> {
        let mut known = self.system.lock().await;
        if let Some(path) = &*known {
            return Ok(path.clone());
        }
        let list_path = format!("{}/Systems", self.access.root);
        let (list, _) = self.get(&list_path).await.map_err(|fault| match fault {
            BmcFault::Refused { status: 404, .. } => BmcFault::NotFound(format!("systems at {list_path}")),
            other => other,
        })?;
        let request = format!("GET {list_path}");
        let members = list["Members"].as_array().ok_or_else(|| BmcFault::invalid(&request, "no Members"))?;
        let paths: Vec<_> =
            members.iter().filter_map(|member| self.local_path(member["@odata.id"].as_str()?)).collect();
        match paths.as_slice() {
            [path] => Ok(known.insert(path.clone()).clone()),
            [] => Err(BmcFault::SystemUnclear("has no system".into())),
            several => Err(BmcFault::SystemUnclear(cut_text(&format!(
                "has {} systems, so redfish_system_id has to name one: {}",
                several.len(),
                several.join(", ")
            )))),
        }
    }

    /// Reads a resource and its entity tag.
    pub(super) async fn get(&self, path: &str) -> Result<(Value, Option<String>), BmcFault> {
        let response = self.request(Method::GET, path, None, None, CallKind::Read).await?;
        let value = response.json(&format!("GET {path}"))?;
        let etag = response.header("etag").or(value["@odata.etag"].as_str()).map(str::to_owned);
        Ok((value, etag))
    }

    /// Makes a request with login and repetitions; a response with an error status is a fault.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
        kind: CallKind,
    ) -> Result<BmcResponse, BmcFault> {
        let mut attempt = 1;
        loop {
            let result = self.send_authorized(method.clone(), path, body, etag).await;
            let Err(fault) = result else { return result };
            let Some((quirk, count)) = quirks::decide_repetition(kind, &fault, attempt) else {
                return Err(fault);
            };
            quirk.note(&self.access.address);
            tokio::time::sleep(quirks::pause_of(self.limits.pause, count)).await;
            attempt += 1;
        }
    }

    /// Logs in if necessary, and once more if the session is lost.
    async fn send_authorized(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        etag: Option<&str>,
    ) -> Result<BmcResponse, BmcFault> {
        let mut is_renewed = false;
        loop {
            let mut slot = self.login.lock().await;
            let is_new = slot.is_none();
            let login = match &*slot {
                Some(login) => login.clone(),
                None => slot.insert(self.log_in().await?).clone(),
            };
            drop(slot);
            let response = self.send(method.clone(), path, body, &login, etag).await?;
            let status = response.status.as_u16();
            match status {
                200..=299 => return Ok(response),
                401 if !is_new && !is_renewed && matches!(login, Login::Session(..)) => {
                    Quirk::SessionLost.note(&self.access.address);
                    *self.login.lock().await = None;
                    is_renewed = true;
                }
                401 | 403 => {
                    *self.login.lock().await = None;
                    return Err(self.refuse_login(status, &response.body));
                }
                _ => return Err(BmcFault::refused(&format!("{method} {path}"), status, &response.body)),
            }
        }
    }

    /// Sends one request.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        login: &Login,
        etag: Option<&str>,
    ) -> Result<BmcResponse, BmcFault> {
        let name = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.access.address));
        request = match login {
            Login::Anonymous => request,
            Login::Basic => {
                let user = self.access.username.as_deref().unwrap_or_default();
                request.basic_auth(user, Some(self.access.password.expose_secret()))
            }
            Login::Session(token, _) => match HeaderValue::from_str(token.expose_secret()) {
                Ok(mut token) => {
                    token.set_sensitive(true);
                    request.header("x-auth-token", token)
                }
                Err(_) => request.header(AUTHORIZATION, ""),
            },
        };
        if let Some(etag) = etag {
            request = request.header(IF_MATCH, etag);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        // Each holder of a permit releases it at its own time limit.
        let permit = timeout(MAX_QUEUE_TIME, self.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            let seconds = MAX_QUEUE_TIME.as_secs();
            return Err(BmcFault::Unusable(format!("no request to a BMC could start for {seconds} s")));
        };
        let response = request.send().await;
        let response =
            response.map_err(|error| BmcFault::from_transport(error, &name, self.limits.exchange))?;
        BmcResponse::read(response, &name, self.limits).await
    }

    /// The path of a link of the BMC: on its own host only.
    pub(super) fn local_path(&self, link: &str) -> Option<String> {
        let path = link.strip_prefix(self.access.address.as_str()).unwrap_or(link);
        let is_path = path.starts_with('/') && !path.starts_with("//") && path.len() <= MAX_PATH;
        let is_plain =
            path.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '\\' | '#' | '"' | '<' | '>'));
        (is_path && is_plain).then(|| path.to_owned())
    }
}
