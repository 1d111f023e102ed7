//! What the operator said: the configuration file, checked, with every default stated once.
//!
//! A file is read whole: all its faults are told at once, each with its key, and a key that is not known comes
//! with the nearest one that is.

mod cloud;
mod fault;
mod host;
mod read;
#[cfg(test)]
mod tests;
mod tftp;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::model::{LogFilter, LogFilterError, StorageInterface};
pub use cloud::{CLOUD_KEYS, CloudConfig};
pub(crate) use fault::all;
pub use fault::{ConfigError, Fault};
use host::host;
use read::Section;
pub use tftp::{TftpConfig, TransferPorts};

/// Where the file is when nobody names another.
pub const DEFAULT_PATH: &str = "/etc/volboot/volboot.toml";

/// The name of the file beside the store in which timelines are kept.
pub const HISTORY: &str = "history.redb";

/// All that can be configured. [`Config::default`] is what holds with no file at all.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `enabled_storage_interfaces`: the storage interfaces that nodes may have.
    pub enabled_storage_interfaces: Vec<StorageInterface>,
    /// `default_storage_interface`: the one a node gets that was created without.
    pub default_storage_interface: StorageInterface,
    /// `keep_targets_on_undeploy`: whether an undeployed node keeps its volume targets; Ironic removes them.
    pub keep_targets_on_undeploy: bool,
    /// `log`: how much is logged, where the environment does not say it.
    pub log: LogFilter,
    /// `[store]`
    pub store: StoreConfig,
    /// `[tftp]`
    pub tftp: TftpConfig,
    /// `[http]`
    pub http: HttpConfig,
    /// `[api]`
    pub api: ApiConfig,
    /// `[boot]`
    pub boot: BootConfig,
    /// `[cinder]`
    pub cinder: CinderConfig,
    /// `[keystone]`
    pub keystone: KeystoneConfig,
}

/// `[store]`: where records live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `path`: the file.
    pub path: PathBuf,
}

/// `[http]`: what machines talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// `listen`: address and TCP port.
    pub listen: SocketAddr,
    /// `url`: what machines are told; unset: the address at which they reached us.
    pub url: Option<String>,
    /// `allow`: the networks whose machines may ask at all.
    pub allow: Vec<IpNet>,
    /// `requests_per_second`: how often one address and one card may ask, on the long run; 0: without limit.
    pub requests_per_second: u32,
    /// `certificate` and `key`: what makes it speak TLS as well.
    pub tls: TlsConfig,
}

/// `[api]`: what people talk to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiConfig {
    /// `listen`: address and TCP port.
    pub listen: SocketAddr,
    /// `certificate` and `key`: what makes it speak TLS, and nothing else.
    pub tls: TlsConfig,
    /// `auth`: who may.
    pub auth: Auth,
    /// `htpasswd_file`: names and bcrypt hashes, as `htpasswd -B` writes them.
    pub htpasswd_file: PathBuf,
    /// `hosts`: further names by which browsers may call.
    pub hosts: Vec<String>,
    /// `projects`: where a role of Keystone's counts as one for the whole system does; ids, or names in the default
    /// domain.
    pub projects: Vec<String>,
    /// `allow_unauthenticated`: whether `auth = "none"` is meant even where others can reach it.
    pub allow_unauthenticated: bool,
}

/// `certificate` and `key`, within a section: both or neither, read again when they change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// `certificate`: a PEM file with a chain, the door's own first.
    pub certificate: Option<PathBuf>,
    /// `key`: a PEM file with its key.
    pub key: Option<PathBuf>,
}

/// Who may use the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// `none`: whoever reaches it.
    None,
    /// `http_basic`: whoever is in `htpasswd_file`.
    HttpBasic,
    /// `keystone`: whose token has a role that counts.
    Keystone,
}

/// `[boot]`: what machines are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootConfig {
    /// `unknown`: what a machine nobody registered does after it was told so.
    pub unknown: Afterwards,
    /// `refused`: what a machine does that is known but may not or cannot boot.
    pub refused: Afterwards,
    /// `tries`: how often a machine tries to boot from its volumes before it gives up.
    pub tries: u32,
    /// `verify_mac`: whether a machine on an attached network must have a card of its node's (`neighbour`), or may say
    /// it has (`off`).
    pub verify_mac: bool,
    /// `when_cinder_is_away`: what a machine gets while Cinder does not answer.
    pub when_cinder_is_away: WhenAway,
    /// `last_known_max_age`: how old a connection may be that is given out meanwhile.
    pub last_known_max_age: Duration,
}

/// What a machine gets while Cinder does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAway {
    /// The connection it had last, if that is surely still its own.
    LastKnown,
    /// It waits until Cinder answers.
    Wait,
}

/// `[cinder]`: where volumes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CinderConfig {
    /// Which cloud, and who we are there.
    pub cloud: CloudConfig,
    /// `resolutions`: how many machines' volumes are looked up at once; the others queue.
    pub resolutions: u32,
}

/// `[keystone]`: who tells whose the tokens are that the API is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeystoneConfig {
    /// `auth_url`: where it is; unset: where `[cinder]` finds it.
    pub auth_url: Option<String>,
    /// `cacert`: the authorities to trust, and no others; unset: the system's.
    pub cacert: Option<PathBuf>,
    /// `verify`: whether certificates are looked at.
    pub verify: bool,
}

/// What a machine does after it was told why it does not boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Afterwards {
    /// Goes on to the firmware's next boot device.
    Exit,
    /// Asks again after a while.
    Retry,
    /// Opens iPXE's command line.
    Shell,
}

impl Default for Config {
    fn default() -> Self {
        Self::from_sections(&mut Section::new(toml::Table::new()))
    }
}

impl Config {
    /// Reads a file; without a name the one at [`DEFAULT_PATH`], if there is one, else every default holds. `further`
    /// tells what is wrong beyond the file itself, so that all faults are told together.
    pub fn load(path: Option<&Path>, further: impl FnOnce(&Self) -> Vec<Fault>) -> Result<Self, ConfigError> {
        let chosen = path.unwrap_or(Path::new(DEFAULT_PATH));
        let text = match std::fs::read_to_string(chosen) {
            Ok(text) => text,
            Err(error) if path.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path: chosen.to_owned(), source }),
        };
        Self::read(&text, further).map_err(|faults| ConfigError::Faults { path: chosen.to_owned(), faults })
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        Self::read(text, |_| Vec::new())
    }

    fn read(text: &str, further: impl FnOnce(&Self) -> Vec<Fault>) -> Result<Self, Vec<Fault>> {
        let table = text
            .parse::<toml::Table>()
            .map_err(|error| vec![Fault { key: None, message: error.to_string().trim_end().to_owned() }])?;
        let mut root = Section::new(table);
        let config = Self::from_sections(&mut root);
        let mut faults = root.finish();
        config.check(&mut faults);
        faults.extend(further(&config));
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }

    /// Every key there is, as `http.listen`: what the documents have to tell of.
    pub fn keys() -> Vec<String> {
        let mut root = Section::new(toml::Table::new());
        Self::from_sections(&mut root);
        root.keys()
    }

    fn from_sections(root: &mut Section) -> Self {
        use StorageInterface::{Cinder, External, Noop};
        Self {
            enabled_storage_interfaces: root.list(
                "enabled_storage_interfaces",
                vec![Noop, External, Cinder],
                storage_interface,
            ),
            default_storage_interface: root.value("default_storage_interface", Noop, storage_interface),
            keep_targets_on_undeploy: root.flag("keep_targets_on_undeploy", false),
            log: root.value("log", LogFilter::default(), |text| {
                text.parse().map_err(|error: LogFilterError| error.to_string())
            }),
            store: root.section("store", |section| StoreConfig {
                path: section.value("path", "/var/lib/volboot/volboot.redb".into(), path),
            }),
            tftp: root.section("tftp", TftpConfig::from_section),
            http: root.section("http", |section| HttpConfig {
                listen: section.parsed("listen", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080))),
                url: section.value("url", None, |text| base_url(text).map(Some)),
                allow: section.list("allow", machine_networks(), |text| {
                    text.parse().map_err(|_| "expected a network such as 10.0.0.0/8".to_owned())
                }),
                requests_per_second: section.number("requests_per_second", 2, 0..=10_000),
                tls: tls(section),
            }),
            api: root.section("api", |section| ApiConfig {
                listen: section.parsed("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 6385))),
                tls: tls(section),
                auth: section.choice(
                    "auth",
                    Auth::None,
                    &[("none", Auth::None), ("http_basic", Auth::HttpBasic), ("keystone", Auth::Keystone)],
                ),
                hosts: section.list("hosts", Vec::new(), host),
                projects: section.list("projects", vec!["service".into()], |text| Ok(text.to_owned())),
                htpasswd_file: section.value("htpasswd_file", "/etc/volboot/htpasswd".into(), path),
                allow_unauthenticated: section.flag("allow_unauthenticated", false),
            }),
            boot: root.section("boot", |section| BootConfig {
                unknown: section.choice("unknown", Afterwards::Exit, &AFTERWARDS),
                refused: section.choice("refused", Afterwards::Exit, &AFTERWARDS),
                tries: section.number("tries", 10, 1..=1000),
                verify_mac: section.choice("verify_mac", true, &[("neighbour", true), ("off", false)]),
                when_cinder_is_away: section.choice(
                    "when_cinder_is_away",
                    WhenAway::LastKnown,
                    &[("last-known", WhenAway::LastKnown), ("wait", WhenAway::Wait)],
                ),
                last_known_max_age: section.duration("last_known_max_age", Duration::from_secs(24 * 60 * 60)),
            }),
            cinder: root.section("cinder", |section| CinderConfig {
                cloud: CloudConfig::from_section(section),
                resolutions: section.number("resolutions", 32, 1..=1024),
            }),
            keystone: root.section("keystone", |section| KeystoneConfig {
                auth_url: section.value("auth_url", None, |text| Ok(Some(text.to_owned()))),
                cacert: section.value("cacert", None, |text| path(text).map(Some)),
                verify: section.flag("verify", true),
            }),
        }
    }

    /// The keys that differ in `other` and are looked at only when volboot starts: those of sockets and files that
    /// are open already.
    pub fn fixed_keys_that_differ(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("store.path", self.store.path != other.store.path),
            ("http.listen", self.http.listen != other.http.listen),
            ("api.listen", self.api.listen != other.api.listen),
            ("api.auth", self.api.auth != other.api.auth),
            ("api.htpasswd_file", self.api.htpasswd_file != other.api.htpasswd_file),
            ("api.projects", self.api.projects != other.api.projects),
            ("keystone", self.keystone != other.keystone),
        ];
        let keys = keys.into_iter().filter_map(|(key, differs)| differs.then_some(key));
        keys.chain(self.tftp.fixed_keys_that_differ(&other.tftp)).collect()
    }

    /// What no single key can show to be wrong.
    fn check(&self, faults: &mut Vec<Fault>) {
        let mut fault =
            |key: &str, message: String| faults.push(Fault { key: Some(key.to_owned()), message });
        if !self.enabled_storage_interfaces.contains(&self.default_storage_interface) {
            let message =
                format!("\"{}\" is not among enabled_storage_interfaces", self.default_storage_interface);
            fault("default_storage_interface", message);
        }
        if self.store.path.file_name().is_some_and(|name| name == HISTORY) {
            let message = format!("{HISTORY} is the name of the file beside it in which timelines are kept");
            fault("store.path", message);
        }
        if self.api.listen == self.http.listen && self.api.listen.port() != 0 {
            fault(
                "api.listen",
                "machines and people need listeners of their own, but http.listen is the same".into(),
            );
        }
        for (section, tls) in [("http", &self.http.tls), ("api", &self.api.tls)] {
            if tls.certificate.is_some() != tls.key.is_some() {
                let message = "a certificate and its key are both needed, or neither";
                fault(&format!("{section}.certificate"), message.into());
            }
        }
        if self.api.auth == Auth::None
            && !self.api.allow_unauthenticated
            && !self.api.listen.ip().to_canonical().is_loopback()
        {
            let message = "without authentication the API may listen on loopback only; \
                           allow_unauthenticated = true if everybody who reaches it may do everything";
            fault("api.auth", message.into());
        }
    }
}

const AFTERWARDS: [(&str, Afterwards); 3] =
    [("exit", Afterwards::Exit), ("retry", Afterwards::Retry), ("shell", Afterwards::Shell)];

/// Private, link-local and loopback networks (RFC 1918, 3927, 4193, 4291): where bare machines are. A script may
/// hold a secret, so nobody else gets one unless the operator says so.
fn machine_networks() -> Vec<IpNet> {
    let networks = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    ];
    networks.into_iter().filter_map(|network| network.parse().ok()).collect()
}

fn storage_interface(text: &str) -> Result<StorageInterface, String> {
    match StorageInterface::from(text.to_owned()) {
        StorageInterface::Other(_) => Err(format!("\"{text}\" is none of noop, external, cinder")),
        known => Ok(known),
    }
}

fn tls(section: &mut Section) -> TlsConfig {
    TlsConfig {
        certificate: section.value("certificate", None, |text| path(text).map(Some)),
        key: section.value("key", None, |text| path(text).map(Some)),
    }
}

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("expected a path".into()) } else { Ok(text.into()) }
}

/// A URL that goes into scripts, so it may hold no more than a base: scheme, authority, and a path without query.
fn base_url(text: &str) -> Result<String, String> {
    let fault = || "expected a URL such as http://192.0.2.1:8080".to_owned();
    let uri: axum::http::Uri = text.parse().map_err(|_| fault())?;
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '[' | ']' | '/' | '-' | '_'))
    };
    match (uri.scheme_str(), uri.authority(), uri.query()) {
        (Some("http" | "https"), Some(_), None) if plain(text) => Ok(text.trim_end_matches('/').to_owned()),
        _ => Err(fault()),
    }
}
