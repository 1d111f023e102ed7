//! The configuration file: its keys, their defaults, and its validation.
//!
//! Reading a file reports all errors together, each with its key. The error for an unknown key suggests the most
//! similar known key.

mod boot;
mod cloud;
mod cluster;
mod dhcp;
mod error;
mod hardware;
mod host;
mod power;
mod read;
mod requesters;
mod store;
#[cfg(test)]
mod tests;
mod tftp;
mod tls;
mod warnings;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::model::{
    ConductorGroup, ConductorGroupError, EnabledHardware, LogFilter, LogFilterError, StorageInterface,
};
pub use boot::{BootConfig, FailureAction, OutagePolicy, PreflightMode, StoreOutagePolicy};
pub use cloud::{CLOUD_KEYS, CloudConfig};
pub use cluster::ClusterConfig;
pub use dhcp::{DhcpConfig, DhcpMode, UnknownMachines};
pub(crate) use error::format_diagnostics;
pub use error::{ConfigError, Diagnostic};
use host::parse_host;
pub use power::PowerConfig;
use read::Section;
pub use requesters::RequesterPolicy;
use requesters::{default_networks, parse_network};
pub use store::{EtcdConfig, StoreConfig, StoreKind};
pub use tftp::{TftpConfig, TransferPorts};
pub use tls::TlsConfig;
use tls::read_tls;

/// The default path of the file.
pub const DEFAULT_PATH: &str = "/etc/volboot/volboot.toml";

/// The name of the history file, in the same directory as the store. It holds the timelines.
pub const HISTORY_FILE: &str = "history.redb";

/// The configuration. [`Config::default`] has the default of every key.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `enabled_hardware_types` and `enabled_*_interfaces`: the drivers and interfaces that a node may have.
    pub hardware: EnabledHardware,
    /// `enabled_storage_interfaces`: the storage interfaces that a node may have.
    pub enabled_storage_interfaces: Vec<StorageInterface>,
    /// `default_storage_interface`: the storage interface of a node that is created without one.
    pub default_storage_interface: StorageInterface,
    /// `conductor_group`: the group of this conductor, and of the nodes that are created without one.
    pub conductor_group: ConductorGroup,
    /// `keep_targets_on_undeploy`: keep the volume targets of a node that is undeployed. Ironic removes them.
    pub keep_targets_on_undeploy: bool,
    /// `log`: the log filter, unless the environment sets one.
    pub log: LogFilter,
    /// `[store]`
    pub store: StoreConfig,
    /// `[cluster]`
    pub cluster: ClusterConfig,
    /// `[tftp]`
    pub tftp: TftpConfig,
    /// `[dhcp]`
    pub dhcp: DhcpConfig,
    /// `[http]`
    pub http: HttpConfig,
    /// `[api]`
    pub api: ApiConfig,
    /// `[power]`
    pub power: PowerConfig,
    /// `[boot]`: the answers to boot requests.
    pub boot: BootConfig,
    /// `[boot]`: the requesters that get volumes.
    pub requesters: RequesterPolicy,
    /// `[cinder]`
    pub cinder: CinderConfig,
    /// `[keystone]`
    pub keystone: KeystoneConfig,
}

/// `[http]`: the boot listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// `listen`: address and TCP port.
    pub listen: SocketAddr,
    /// `url`: the base URL in boot scripts; unset: the local address of the request.
    pub url: Option<String>,
    /// `allow`: the networks whose machines get a response.
    pub allow: Vec<IpNet>,
    /// `trusted_proxies`: the reverse proxies whose `X-Forwarded-For` and `Forwarded` name the client.
    pub trusted_proxies: Vec<IpNet>,
    /// `requests_per_second`: the rate limit of one IP address, and of one network card; 0: no limit.
    pub requests_per_second: u32,
    /// `connections_per_client`: the largest number of connections of one IP address.
    pub connections_per_client: u32,
    /// `certificate` and `key`: enable TLS in addition to plain HTTP.
    pub tls: TlsConfig,
}

/// `[api]`: the operator listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// `listen`: address and TCP port.
    pub listen: SocketAddr,
    /// `certificate` and `key`: enable TLS, and refuse plain HTTP.
    pub tls: TlsConfig,
    /// `connections_per_client`: the largest number of connections of one IP address.
    pub connections_per_client: u32,
    /// `auth`: the authentication of clients.
    pub auth: AuthStrategy,
    /// `htpasswd_file`: user names and bcrypt hashes, as written by `htpasswd -B`.
    pub htpasswd_file: PathBuf,
    /// `hosts`: additional host names that browsers may use.
    pub hosts: Vec<String>,
    /// `projects`: the projects in which a Keystone role counts like a role for the whole system. Ids, or names in
    /// the default domain.
    pub projects: Vec<String>,
    /// `allow_unauthenticated`: permit `auth = "none"` on an address other than loopback.
    pub allow_unauthenticated: bool,
}

/// The authentication of API clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthStrategy {
    /// `none`: every client is authorized.
    None,
    /// `http_basic`: users in `htpasswd_file`.
    HttpBasic,
    /// `keystone`: bearers of a Keystone token with a sufficient role.
    Keystone,
}

/// `[cinder]`: the cloud with the volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CinderConfig {
    /// The cloud, and volboot's credentials there.
    pub cloud: CloudConfig,
    /// `resolutions`: the number of machines whose volumes are resolved concurrently, over all instances; others
    /// queue.
    pub resolutions: u32,
}

/// `[keystone]`: the Keystone that validates API tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeystoneConfig {
    /// `auth_url`: its URL; unset: the Keystone of `[cinder]`.
    pub auth_url: Option<String>,
    /// `cacert`: a CA bundle that replaces the authorities of the system.
    pub cacert: Option<PathBuf>,
    /// `verify`: whether server certificates are verified.
    pub verify: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self::from_sections(&mut Section::new(toml::Table::new()))
    }
}

impl Config {
    /// Reads the file at `path`. Without a path, reads [`DEFAULT_PATH`] if it exists, else returns the defaults.
    /// `check_sources` checks other files that the configuration refers to, so that all errors are reported together.
    pub fn load_blocking(
        path: Option<&Path>,
        check_sources: impl FnOnce(&Self) -> Vec<Diagnostic>,
    ) -> Result<Self, ConfigError> {
        let file = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path: file.to_owned(), source }),
        };
        Self::read(&text, check_sources)
            .map_err(|diagnostics| ConfigError::Invalid { path: file.to_owned(), diagnostics })
    }

    /// Parses the text of a file.
    pub fn parse(text: &str) -> Result<Self, Vec<Diagnostic>> {
        Self::read(text, |_| Vec::new())
    }

    fn read(
        text: &str,
        check_sources: impl FnOnce(&Self) -> Vec<Diagnostic>,
    ) -> Result<Self, Vec<Diagnostic>> {
        let table = text.parse::<toml::Table>().map_err(|error| {
            vec![Diagnostic { key: None, message: error.to_string().trim_end().to_owned() }]
        })?;
        let mut root = Section::new(table);
        let config = Self::from_sections(&mut root);
        let mut diagnostics = root.finish();
        config.check(&mut diagnostics);
        diagnostics.extend(check_sources(&config));
        if diagnostics.is_empty() { Ok(config) } else { Err(diagnostics) }
    }

    /// All keys, as `http.listen`. The documents must describe each of them.
    pub fn keys() -> Vec<String> {
        let mut root = Section::new(toml::Table::new());
        Self::from_sections(&mut root);
        root.keys()
    }

    fn from_sections(root: &mut Section) -> Self {
        use StorageInterface::{Cinder, External, Noop};
        let mut requesters = RequesterPolicy::default();
        Self {
            hardware: hardware::from_section(root),
            enabled_storage_interfaces: root.list(
                "enabled_storage_interfaces",
                vec![Noop, External, Cinder],
                parse_storage_interface,
            ),
            default_storage_interface: root.value("default_storage_interface", Noop, parse_storage_interface),
            conductor_group: root.value("conductor_group", ConductorGroup::default(), |text| {
                text.parse().map_err(|error: ConductorGroupError| error.to_string())
            }),
            keep_targets_on_undeploy: root.flag("keep_targets_on_undeploy", false),
            log: root.value("log", LogFilter::default(), |text| {
                text.parse().map_err(|error: LogFilterError| error.to_string())
            }),
            store: root.section("store", StoreConfig::from_section),
            cluster: root.section("cluster", ClusterConfig::from_section),
            tftp: root.section("tftp", TftpConfig::from_section),
            dhcp: root.section("dhcp", DhcpConfig::from_section),
            http: root.section("http", |section| HttpConfig {
                listen: section.address("listen", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080))),
                url: section.value("url", None, |text| parse_base_url(text).map(Some)),
                allow: section.list("allow", default_networks(), parse_network),
                trusted_proxies: section.list("trusted_proxies", Vec::new(), parse_network),
                requests_per_second: section.number("requests_per_second", 2, 0..=10_000),
                connections_per_client: section.number("connections_per_client", 64, 1..=100_000),
                tls: read_tls(section),
            }),
            api: root.section("api", |section| ApiConfig {
                listen: section.address("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 6385))),
                connections_per_client: section.number("connections_per_client", 64, 1..=100_000),
                tls: read_tls(section),
                auth: section.choice(
                    "auth",
                    AuthStrategy::None,
                    &[
                        ("none", AuthStrategy::None),
                        ("http_basic", AuthStrategy::HttpBasic),
                        ("keystone", AuthStrategy::Keystone),
                    ],
                ),
                hosts: section.list("hosts", Vec::new(), parse_host),
                projects: section.list("projects", vec!["service".into()], |text| Ok(text.to_owned())),
                htpasswd_file: section.value("htpasswd_file", "/etc/volboot/htpasswd".into(), parse_path),
                allow_unauthenticated: section.flag("allow_unauthenticated", false),
            }),
            power: root.section("power", PowerConfig::from_section),
            boot: root.section("boot", |section| {
                let boot = BootConfig::from_section(section);
                requesters = RequesterPolicy::from_section(section);
                boot
            }),
            requesters,
            cinder: root.section("cinder", |section| CinderConfig {
                cloud: CloudConfig::from_section(section),
                resolutions: section.number("resolutions", 32, 1..=1024),
            }),
            keystone: root.section("keystone", |section| KeystoneConfig {
                auth_url: section.value("auth_url", None, |text| Ok(Some(text.to_owned()))),
                cacert: section.value("cacert", None, |text| parse_path(text).map(Some)),
                verify: section.flag("verify", true),
            }),
        }
    }

    /// The networks whose clients may read files over TFTP.
    pub fn tftp_allow(&self) -> &[IpNet] {
        self.tftp.allow.as_deref().unwrap_or(&self.http.allow)
    }

    /// The keys that differ in `other` and take effect only at a restart: those of open sockets and files.
    pub fn changed_restart_keys(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("store.kind", self.store.kind != other.store.kind),
            ("store.path", self.store.path != other.store.path),
            ("store.etcd", self.store.etcd != other.store.etcd),
            ("dhcp.mode", self.dhcp.mode != other.dhcp.mode),
            ("dhcp.watch_answers", self.dhcp.watch_answers != other.dhcp.watch_answers),
            ("http.listen", self.http.listen != other.http.listen),
            ("api.listen", self.api.listen != other.api.listen),
            (
                "http.connections_per_client",
                self.http.connections_per_client != other.http.connections_per_client,
            ),
            (
                "api.connections_per_client",
                self.api.connections_per_client != other.api.connections_per_client,
            ),
            ("power", self.power != other.power),
            ("api.auth", self.api.auth != other.api.auth),
            ("api.htpasswd_file", self.api.htpasswd_file != other.api.htpasswd_file),
            ("api.projects", self.api.projects != other.api.projects),
            ("keystone", self.keystone != other.keystone),
        ];
        let keys = keys.into_iter().filter_map(|(key, differs)| differs.then_some(key));
        let cluster = self.cluster.changed_restart_keys(&other.cluster);
        keys.chain(self.tftp.changed_restart_keys(&other.tftp)).chain(cluster).collect()
    }

    /// Checks the rules that span several keys.
    fn check(&self, diagnostics: &mut Vec<Diagnostic>) {
        let mut report =
            |key: &str, message: String| diagnostics.push(Diagnostic { key: Some(key.to_owned()), message });
        if !self.enabled_storage_interfaces.contains(&self.default_storage_interface) {
            let message =
                format!("\"{}\" is not among enabled_storage_interfaces", self.default_storage_interface);
            report("default_storage_interface", message);
        }
        if let Some((key, message)) = hardware::check(&self.hardware) {
            report(key, message);
        }
        if self.store.path.file_name().is_some_and(|name| name == HISTORY_FILE) {
            let message = format!("{HISTORY_FILE} is the name of the history file in the same directory");
            report("store.path", message);
        }
        for (key, message) in self.store.check() {
            report(key, message);
        }
        if let Some((key, message)) = self.dhcp.check(self.http.url.as_deref()) {
            report(key, message);
        }
        if self.api.listen == self.http.listen && self.api.listen.port() != 0 {
            report(
                "api.listen",
                "equals http.listen; the operator listener needs an address or a port of its own".into(),
            );
        }
        for (key, message) in self.cluster.check([self.http.listen, self.api.listen]) {
            report(key, message.to_owned());
        }
        for (section, tls) in [("http", &self.http.tls), ("api", &self.api.tls)] {
            if tls.certificate.is_some() != tls.key.is_some() {
                let message = "certificate and key must be set together";
                report(&format!("{section}.certificate"), message.into());
            }
        }
        if self.api.auth == AuthStrategy::None
            && !self.api.allow_unauthenticated
            && !self.api.listen.ip().to_canonical().is_loopback()
        {
            let message = "\"none\" requires a loopback address in api.listen; \
                           allow_unauthenticated = true permits other addresses";
            report("api.auth", message.into());
        }
    }
}

fn parse_storage_interface(text: &str) -> Result<StorageInterface, String> {
    match StorageInterface::from(text.to_owned()) {
        StorageInterface::Other(_) => Err(format!("\"{text}\" is not \"noop\", \"external\" or \"cinder\"")),
        known @ (StorageInterface::Noop | StorageInterface::External | StorageInterface::Cinder) => Ok(known),
    }
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a path".into()) } else { Ok(text.into()) }
}

/// Parses the base URL of boot scripts: scheme, authority, and a path without query. The character set is restricted
/// because the URL becomes part of a script.
fn parse_base_url(text: &str) -> Result<String, String> {
    let error = || "expected a URL such as http://192.0.2.1:8080".to_owned();
    let uri: ::http::Uri = text.parse().map_err(|_| error())?;
    let is_plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '[' | ']' | '/' | '-' | '_'))
    };
    match (uri.scheme_str(), uri.authority(), uri.query()) {
        (Some("http" | "https"), Some(_), None) if is_plain(text) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(error()),
    }
}
