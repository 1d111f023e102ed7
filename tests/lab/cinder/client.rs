//! A client for Keystone and Cinder: creates volumes, attaches them for other hosts, lists attachments, revokes
//! tokens.
//!
//! The client runs on one thread, so that all sockets are in the lab's network namespace. It keeps no connections,
//! because a test may kill the server in between.

use std::cell::RefCell;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::await_until;

/// The password of all users.
pub(crate) const PASSWORD: &str = "lab-secret";

const KEYSTONE: &str = "http://127.0.0.1:5000/v3";
const CINDER: &str = "http://127.0.0.1:8776/v3";
const LIMIT: Duration = Duration::from_secs(90);

/// A client of the cloud.
pub(crate) struct Client {
    http: Http,
    user: String,
    project: String,
    token: RefCell<Option<Token>>,
    /// The token of a service, for the next requests.
    service_token: RefCell<Option<String>>,
}

#[derive(Clone)]
struct Token {
    text: String,
    project: String,
}

impl Client {
    /// A user in a project. Logs in on the first request, and again after a token was revoked.
    pub(crate) fn new(user: &str, project: &str) -> Result<Self> {
        let (user, project) = (user.to_owned(), project.to_owned());
        Ok(Self {
            http: Http::new()?,
            user,
            project,
            token: RefCell::default(),
            service_token: RefCell::default(),
        })
    }

    /// Creates a volume and waits until it is available.
    pub(crate) fn create_volume(&self, kind: &str) -> Result<String> {
        let body = json!({"volume": {"size": 1, "volume_type": kind}});
        let response = self.cinder(&Method::POST, "volumes", Some(&body))?;
        let id = response["volume"]["id"].as_str().context("a volume without an id")?.to_owned();
        self.await_status(&id, "available")?;
        Ok(id)
    }

    /// Deletes a volume and waits until it is gone.
    pub(crate) fn delete_volume(&self, id: &str) -> Result<()> {
        let path = format!("volumes/{id}");
        self.cinder(&Method::DELETE, &path, None)?;
        await_until("the volume to be gone", || Ok(self.send_to_cinder(&Method::GET, &path, None)?.0 == 404))
    }

    /// The status of a volume.
    pub(crate) fn status(&self, id: &str) -> Result<String> {
        let response = self.cinder(&Method::GET, &format!("volumes/{id}"), None)?;
        Ok(response["volume"]["status"].as_str().context("a volume without a status")?.to_owned())
    }

    /// Waits until a volume has this status.
    pub(crate) fn await_status(&self, id: &str, status: &str) -> Result<()> {
        let mut last = String::new();
        let result = await_until(&format!("volume {id} to be {status}"), || {
            last = self.status(id)?;
            Ok(last == status)
        });
        result.with_context(|| format!("its status is {last}"))
    }

    /// All attachments of a volume.
    pub(crate) fn attachments(&self, volume: &str) -> Result<Vec<Value>> {
        let list = self.cinder(&Method::GET, &format!("attachments/detail?volume_id={volume}"), None)?;
        Ok(list["attachments"].as_array().context("a list")?.clone())
    }

    /// The ids of the attachments of all volumes.
    pub(crate) fn all_attachments(&self) -> Result<Vec<String>> {
        let list = self.cinder(&Method::GET, "attachments", None)?;
        let ids = list["attachments"].as_array().context("a list")?.iter();
        Ok(ids.filter_map(|attachment| attachment["id"].as_str()).map(str::to_owned).collect())
    }

    /// Detaches and deletes everything in the project.
    pub(crate) fn clear(&self) -> Result<()> {
        for attachment in self.all_attachments()? {
            self.detach(&attachment)?;
        }
        let list = self.cinder(&Method::GET, "volumes", None)?;
        for volume in list["volumes"].as_array().context("a list")? {
            let id = volume["id"].as_str().context("a volume without an id")?;
            await_until("the volume to be deletable", || {
                Ok(self.send_to_cinder(&Method::DELETE, &format!("volumes/{id}"), None)?.0 != 400)
            })?;
        }
        Ok(())
    }

    /// Reserves a volume: an attachment without a connector.
    pub(crate) fn reserve(&self, volume: &str) -> Result<String> {
        let body = json!({"attachment": {"volume_uuid": volume}});
        let response = self.cinder(&Method::POST, "attachments", Some(&body))?;
        Ok(response["attachment"]["id"].as_str().context("an attachment without an id")?.to_owned())
    }

    /// Exports and completes a reserved attachment; returns the connection.
    pub(crate) fn connect(&self, attachment: &str, initiator: &str) -> Result<Value> {
        let connector = json!({"initiator": initiator, "host": "another-host", "multipath": false});
        let body = json!({"attachment": {"connector": connector}});
        let path = format!("attachments/{attachment}");
        let response = self.cinder(&Method::PUT, &path, Some(&body))?;
        self.cinder(&Method::POST, &format!("{path}/action"), Some(&json!({"os-complete": {}})))?;
        Ok(response["attachment"]["connection_info"].clone())
    }

    /// Attaches a volume for a server, with the three calls and the connector of Nova; returns the attachment.
    pub(crate) fn attach_for_server(&self, volume: &str, server: &str, connector: &Value) -> Result<String> {
        let body = json!({"attachment": {"volume_uuid": volume, "instance_uuid": server}});
        let response = self.cinder(&Method::POST, "attachments", Some(&body))?;
        let id = response["attachment"]["id"].as_str().context("an attachment without an id")?.to_owned();
        let path = format!("attachments/{id}");
        self.cinder(&Method::PUT, &path, Some(&json!({"attachment": {"connector": connector}})))?;
        self.cinder(&Method::POST, &format!("{path}/action"), Some(&json!({"os-complete": {}})))?;
        Ok(id)
    }

    /// Attaches a volume for a node with the calls of Ironic, which gives Cinder no host.
    pub(crate) fn attach_as_ironic(&self, volume: &str, node: &str, connector: &Value) -> Result<()> {
        for action in [
            json!({"os-reserve": null}),
            json!({"os-initialize_connection": {"connector": connector}}),
            json!({"os-attach": {"mountpoint": "ironic_mountpoint", "instance_uuid": node}}),
        ] {
            self.cinder(&Method::POST, &format!("volumes/{volume}/action"), Some(&action))?;
        }
        Ok(())
    }

    /// The only holder of a volume, as Cinder shows it to this user.
    pub(crate) fn holder(&self, volume: &str) -> Result<Value> {
        let response = self.cinder(&Method::GET, &format!("volumes/{volume}"), None)?;
        match response["volume"]["attachments"].as_array().map(Vec::as_slice) {
            Some([holder]) => Ok(holder.clone()),
            holders => bail!("expected one holder, found {holders:?}"),
        }
    }

    /// Deletes an attachment. Like Nova, it sends a service token: otherwise Cinder asks Nova about an attachment with a
    /// server.
    pub(crate) fn detach(&self, attachment: &str) -> Result<()> {
        let service = Self::new("cinder", "service")?.log_in()?;
        self.service_token.replace(Some(service.text));
        let result = self.cinder(&Method::DELETE, &format!("attachments/{attachment}"), None).map(drop);
        self.service_token.take();
        result
    }

    /// The number of pools that the scheduler knows (needs role admin).
    pub(super) fn pools(&self) -> Result<usize> {
        let list = self.cinder(&Method::GET, "scheduler-stats/get_pools", None)?;
        Ok(list["pools"].as_array().context("a list")?.len())
    }

    /// Revokes all tokens of a user (needs role admin), and waits until Cinder rejects them.
    pub(crate) fn revoke_tokens_of(&self, other: &Self) -> Result<()> {
        let own = self.log_in()?.text;
        let old = other.log_in()?;
        // Cinder accepts the token now, and caches this result for some seconds.
        other.cinder(&Method::GET, "volumes?limit=1", None)?;
        let users = self.http.send(
            &Method::GET,
            &format!("{KEYSTONE}/users?name={}", other.user),
            Some(&own),
            None,
        )?;
        let id = users.2["users"][0]["id"].as_str().context("a user without an id")?.to_owned();
        for enabled in [false, true] {
            let body = json!({"user": {"enabled": enabled}});
            let url = format!("{KEYSTONE}/users/{id}");
            let (status, ..) = self.http.send(&Method::PATCH, &url, Some(&own), Some(&body))?;
            ensure!(status == 200, "cannot change the user: {status}");
        }
        let url = format!("{CINDER}/{}/volumes?limit=1", old.project);
        await_until("Cinder to reject the old token", || {
            Ok(self.http.send(&Method::GET, &url, Some(&old.text), None)?.0 == 401)
        })
    }

    fn cinder(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, response) = self.send_to_cinder(method, path, body)?;
        if !(200..300).contains(&status) {
            bail!("{method} {path} failed with {status}: {response}");
        }
        Ok(response)
    }

    fn send_to_cinder(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let mut is_first = true;
        loop {
            let cached = self.token.borrow().clone();
            let token = match cached {
                Some(token) => token,
                None => self.log_in()?,
            };
            let url = format!("{CINDER}/{}/{path}", token.project);
            let service = self.service_token.borrow().clone();
            let tokens = Some((token.text.as_str(), service.as_deref()));
            let (status, _, response) = self.http.send_with(method, &url, tokens, body)?;
            if status != 401 || !is_first {
                return Ok((status, response));
            }
            is_first = false;
            self.token.take();
        }
    }

    fn log_in(&self) -> Result<Token> {
        let domain = json!({"id": "default"});
        let user = json!({"name": self.user, "domain": domain, "password": PASSWORD});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": self.project, "domain": domain}},
        }});
        let url = format!("{KEYSTONE}/auth/tokens");
        let (status, token, response) = self.http.send(&Method::POST, &url, None, Some(&body))?;
        ensure!(status == 201, "{} could not log in: {status} {response}", self.user);
        let project = response["token"]["project"]["id"].as_str().context("a token without a project")?;
        let token = Token { text: token.context("no token")?, project: project.to_owned() };
        self.token.replace(Some(token.clone()));
        Ok(token)
    }
}

/// An HTTP client for JSON in the lab's network.
pub(super) struct Http {
    runtime: Runtime,
    client: reqwest::Client,
}

impl Http {
    pub(super) fn new() -> Result<Self> {
        volboot::tls::install_provider();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client =
            reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(LIMIT).build()?;
        Ok(Self { runtime, client })
    }

    /// Succeeds if a server responds at this URL.
    pub(super) fn get(&self, url: &str) -> Result<()> {
        self.send(&Method::GET, url, None, None).map(drop)
    }

    /// Returns the status, the token header if present, and the body, parsed if it is JSON.
    fn send(
        &self,
        method: &Method,
        url: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(u16, Option<String>, Value)> {
        self.send_with(method, url, token.map(|token| (token, None)), body)
    }

    /// Like [`send`](Self::send), with the token of a service beside the user's.
    fn send_with(
        &self,
        method: &Method,
        url: &str,
        tokens: Option<(&str, Option<&str>)>,
        body: Option<&Value>,
    ) -> Result<(u16, Option<String>, Value)> {
        let mut request = self.client.request(method.clone(), url);
        request = request.header("OpenStack-API-Version", "volume 3.54");
        if let Some((token, service)) = tokens {
            request = request.header("X-Auth-Token", token);
            request =
                service.into_iter().fold(request, |request, token| request.header("X-Service-Token", token));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let token = response.headers().get("X-Subject-Token");
            let token = token.and_then(|token| token.to_str().ok()).map(str::to_owned);
            let text = response.text().await?;
            Ok((status, token, serde_json::from_str(&text).unwrap_or(Value::String(text))))
        })
    }
}
