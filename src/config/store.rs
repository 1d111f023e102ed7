//! `[store]` and `[store.etcd]`: where the records are.

use std::net::IpAddr;
use std::path::PathBuf;

use super::parse_path;
use super::read::Section;

/// Why `kind = "etcd"` is refused, if it is.
const ETCD_REFUSAL: Option<&str> =
    if cfg!(feature = "etcd") { None } else { Some("this volboot was built without etcd") };

/// `[store]`: the record store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `kind`: the kind of store.
    pub kind: StoreKind,
    /// `path`: its file; with etcd, the mirror is beside it.
    pub path: PathBuf,
    /// `[store.etcd]`
    pub etcd: EtcdConfig,
}

/// The kinds of stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// `redb`: a local file, for one instance.
    Redb,
    /// `etcd`: shared by several instances.
    Etcd,
}

/// `[store.etcd]`: the etcd cluster with the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `endpoints`: the URLs of the members, such as `https://10.0.0.11:2379`.
    pub endpoints: Vec<String>,
    /// `prefix`: the prefix of all keys.
    pub prefix: String,
    /// `username`: the user; unset: etcd has no authentication.
    pub username: Option<String>,
    /// `password_file`: a file with the user's password.
    pub password_file: Option<PathBuf>,
    /// `cacert`: a CA bundle that replaces the authorities of the system.
    pub cacert: Option<PathBuf>,
    /// `certificate`: a PEM file with the client's certificate chain.
    pub certificate: Option<PathBuf>,
    /// `key`: a PEM file with the client's private key.
    pub key: Option<PathBuf>,
    /// `allow_insecure`: permit plain HTTP to an address other than loopback.
    pub allow_insecure: bool,
}

impl StoreConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        let kinds = [("redb", StoreKind::Redb), ("etcd", StoreKind::Etcd)];
        Self {
            kind: section.choice("kind", StoreKind::Redb, &kinds),
            path: section.value("path", "/var/lib/volboot/volboot.redb".into(), parse_path),
            etcd: section.section("etcd", EtcdConfig::from_section),
        }
    }

    /// The first fault of `[store.etcd]`, whatever kind of store is configured: for a copy from one kind to the other.
    pub fn check_etcd(&self) -> Result<(), String> {
        self.etcd.check().into_iter().next().map_or(Ok(()), |(key, fault)| Err(format!("{key}: {fault}")))
    }

    /// The faults that span several keys, each with its key.
    pub(super) fn check(&self) -> Vec<(&'static str, String)> {
        match self.kind {
            StoreKind::Redb => Vec::new(),
            StoreKind::Etcd => {
                let refusal = ETCD_REFUSAL.map(|reason| ("store.kind", reason.to_owned()));
                refusal.into_iter().chain(self.etcd.check()).collect()
            }
        }
    }
}

impl EtcdConfig {
    fn from_section(section: &mut Section) -> Self {
        let text = |text: &str| Ok(Some(text.to_owned()));
        let path = |text: &str| parse_path(text).map(Some);
        Self {
            endpoints: section.list("endpoints", Vec::new(), parse_endpoint),
            prefix: section.value("prefix", "/volboot/".to_owned(), parse_prefix),
            username: section.value("username", None, text),
            password_file: section.value("password_file", None, path),
            cacert: section.value("cacert", None, path),
            certificate: section.value("certificate", None, path),
            key: section.value("key", None, path),
            allow_insecure: section.flag("allow_insecure", false),
        }
    }

    fn check(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.endpoints.is_empty() {
            faults.push(("store.etcd.endpoints", "names no member of etcd".to_owned()));
        }
        let insecure = self.endpoints.iter().find(|endpoint| !is_protected(endpoint));
        if let Some(endpoint) = insecure.filter(|_| !self.allow_insecure) {
            let message = format!(
                "{endpoint} sends secrets in clear text; use https, or set store.etcd.allow_insecure"
            );
            faults.push(("store.etcd.endpoints", message));
        }
        if self.username.is_some() != self.password_file.is_some() {
            faults.push(("store.etcd.username", "needs password_file, and the other way round".to_owned()));
        }
        if self.certificate.is_some() != self.key.is_some() {
            faults.push(("store.etcd.certificate", "needs key, and the other way round".to_owned()));
        }
        faults
    }
}

/// Whether nobody on the network can read the connection.
fn is_protected(endpoint: &str) -> bool {
    let Some(authority) = endpoint.strip_prefix("http://") else { return true };
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let expected = || format!("\"{text}\" is not a URL such as https://10.0.0.11:2379");
    let url: http::Uri = text.parse().map_err(|_| expected())?;
    let is_valid = matches!(url.scheme_str(), Some("http" | "https"))
        && url.port().is_some()
        && url.path().trim_end_matches('/').is_empty()
        && url.query().is_none();
    if is_valid { Ok(text.trim_end_matches('/').to_owned()) } else { Err(expected()) }
}

fn parse_prefix(text: &str) -> Result<String, String> {
    if text.trim_matches('/').is_empty() {
        return Err("an empty prefix would cover all keys of etcd".to_owned());
    }
    Ok(format!("{}/", text.trim_end_matches('/')))
}
