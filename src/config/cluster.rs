//! `[cluster]`: this instance among those that share a store.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::read::Section;
use super::tls::{TlsConfig, read_tls};
use super::{Config, Diagnostic, parse_base_url, parse_path};
use crate::model::{InstanceName, InstanceNameError, StorageInterface};

/// The longest `drain_delay`: systemd's time-out for a stop is 60 s, and the drain itself takes up to 40 s.
const MAX_DRAIN_DELAY: Duration = Duration::from_secs(15);

/// `[cluster]`: this instance among those that share a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `name`: the name of this instance; unset: that of the host.
    pub name: Option<InstanceName>,
    /// `listen`: address and TCP port for the other instances; unset: no listener for them.
    pub listen: Option<SocketAddr>,
    /// `url`: the base URL under which the other instances reach the listener; unset: its address.
    pub url: Option<String>,
    /// `certificate` and `key`: enable TLS, and refuse plain HTTP.
    pub tls: TlsConfig,
    /// `cacert`: a CA bundle for the certificates of the other instances; unset: the authorities of the system.
    pub cacert: Option<PathBuf>,
    /// `session`: how long the shared store waits for an instance that does not respond, before others take over.
    pub session: Duration,
    /// `drain_delay`: with a shared store, how long the instance goes on serving after `/readyz` reports the shutdown.
    pub drain_delay: Duration,
}

impl ClusterConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        Self {
            name: section.value("name", None, |text| {
                text.parse().map(Some).map_err(|error: InstanceNameError| error.to_string())
            }),
            listen: section.value("listen", None, |text| {
                let address = text.parse().map(Some);
                address.map_err(|_| "expected an address and a port such as 10.0.0.1:6386".to_owned())
            }),
            url: section.value("url", None, |text| parse_base_url(text).map(Some)),
            tls: read_tls(section),
            cacert: section.value("cacert", None, |text| parse_path(text).map(Some)),
            session: section.duration("session", Duration::from_secs(10)),
            drain_delay: section.value("drain_delay", Duration::from_secs(5), |text| {
                let duration = text.parse::<jiff::SignedDuration>().ok();
                let duration = duration.and_then(|span| Duration::try_from(span).ok());
                duration.ok_or_else(|| "expected a duration such as \"5s\" or \"0s\"".to_owned())
            }),
        }
    }

    /// The URL of the listener, which is bound to `address`, for the other instances.
    pub fn public_url(&self, address: SocketAddr) -> String {
        let scheme = if self.tls.certificate.is_some() { "https" } else { "http" };
        self.url.clone().unwrap_or_else(|| format!("{scheme}://{address}"))
    }

    /// The keys that differ in `other` and take effect only at a restart.
    pub(super) fn changed_restart_keys(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("cluster.name", self.name != other.name),
            ("cluster.listen", self.listen != other.listen),
            ("cluster.url", self.url != other.url),
            ("cluster.cacert", self.cacert != other.cacert),
            ("cluster.session", self.session != other.session),
            ("cluster.drain_delay", self.drain_delay != other.drain_delay),
        ];
        keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }

    /// Checks the rules that span several keys. `others`: the addresses of the other HTTP listeners.
    pub(super) fn check(&self, others: [SocketAddr; 2]) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        let has_certificate = self.tls.certificate.is_some();
        if has_certificate != self.tls.key.is_some() {
            faults.push(("cluster.certificate", "certificate and key must be set together"));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(300)).contains(&self.session) {
            faults.push(("cluster.session", "expected a duration from 1s to 5min"));
        }
        if self.drain_delay > MAX_DRAIN_DELAY {
            faults.push(("cluster.drain_delay", "expected a duration of at most 15s"));
        }
        let Some(listen) = self.listen else {
            if self.url.is_some() || has_certificate {
                faults
                    .push(("cluster.listen", "must be set too: it is the listener for the other instances"));
            }
            return faults;
        };
        if others.contains(&listen) && listen.port() != 0 {
            faults.push((
                "cluster.listen",
                "equals http.listen or api.listen; the instances need a port of their own",
            ));
        }
        match &self.url {
            None if listen.ip().is_unspecified() => {
                faults.push((
                    "cluster.url",
                    "must be set, because cluster.listen names no address to connect to",
                ));
            }
            Some(url) if has_certificate && url.starts_with("http://") => {
                faults.push(("cluster.url", "must begin with https://, because cluster.certificate is set"));
            }
            Some(_) | None => {}
        }
        faults
    }

    /// The warning about plain HTTP beyond this host.
    pub(super) fn warn_of_plain_http(&self) -> Option<Diagnostic> {
        let listen = self.listen.filter(|listen| !listen.ip().to_canonical().is_loopback())?;
        self.tls.certificate.is_none().then(|| Diagnostic {
            key: Some("cluster.certificate".to_owned()),
            message: format!(
                "is not set: the instances speak plain HTTP at {listen}; nothing can be forged, but everything can be \
                 read: use a network of their own"
            ),
        })
    }
}

impl Config {
    /// The keys whose values must be the same on all instances of a cluster, each with its value as text. No secrets.
    pub fn shared_values(&self) -> Vec<(&'static str, String)> {
        let Self { boot, requesters, http, cinder, dhcp, .. } = self;
        let storage: Vec<_> = self.enabled_storage_interfaces.iter().map(StorageInterface::as_str).collect();
        vec![
            ("enabled_storage_interfaces", storage.join(" ")),
            ("default_storage_interface", self.default_storage_interface.as_str().to_owned()),
            ("keep_targets_on_undeploy", self.keep_targets_on_undeploy.to_string()),
            ("boot.unknown", format!("{:?}", boot.unknown)),
            ("boot.refused", format!("{:?}", boot.refused)),
            ("boot.tries", boot.tries.to_string()),
            ("boot.verify_mac", requesters.verify_mac.to_string()),
            ("boot.routed_networks", format!("{:?}", requesters.routed_networks)),
            ("boot.when_cinder_is_away", format!("{:?}", boot.when_cinder_is_away)),
            ("boot.last_known_max_age", boot.last_known_max_age.as_secs().to_string()),
            ("http.url", http.url.clone().unwrap_or_default()),
            ("http.allow", format!("{:?}", http.allow)),
            ("dhcp.mode", format!("{:?}", dhcp.mode)),
            ("dhcp.unknown", format!("{:?}", dhcp.unknown)),
            ("cinder.resolutions", cinder.resolutions.to_string()),
            ("cinder.auth_url", cinder.cloud.get("auth_url").unwrap_or_default().to_owned()),
            ("cinder.region_name", cinder.cloud.get("region_name").unwrap_or_default().to_owned()),
            (
                "cinder.endpoint_override",
                cinder.cloud.get("endpoint_override").unwrap_or_default().to_owned(),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<Config, Vec<String>> {
        let faults = |faults: Vec<Diagnostic>| faults.iter().map(ToString::to_string).collect();
        Config::parse(&format!("[cluster]\n{keys}")).map_err(faults)
    }

    #[test]
    fn faulty_keys_are_reported() {
        for (keys, fault) in [
            ("name = \"boot 1\"", "cluster.name: the name of an instance"),
            ("session = \"0.5s\"", "cluster.session: expected a duration"),
            ("drain_delay = \"30s\"", "cluster.drain_delay: expected a duration"),
            ("url = \"http://a:6386\"", "cluster.listen: must be set too"),
            ("listen = \"[::]:6386\"", "cluster.url: must be set"),
            ("listen = \"0.0.0.0:8080\"\nurl = \"http://a:8080\"", "cluster.listen: equals"),
            ("listen = \"10.0.0.1:6386\"\nkey = \"k\"", "cluster.certificate: certificate and key"),
            (
                "listen = \"10.0.0.1:6386\"\nurl = \"http://a\"\nkey = \"k\"\ncertificate = \"c\"",
                "cluster.url: must begin with https",
            ),
        ] {
            let faults = parse(keys).expect_err(keys);
            assert!(faults.len() == 1 && faults[0].starts_with(fault), "{keys}: {faults:?}");
        }
    }

    #[test]
    fn plain_http_is_taken_with_a_warning() {
        let warnings =
            |keys: &str| parse(keys).expect("is valid").cluster.warn_of_plain_http().iter().count();
        assert_eq!(warnings("listen = \"10.0.0.1:6386\""), 1);
        assert_eq!(warnings("listen = \"127.0.0.1:6386\""), 0);
        assert_eq!(warnings("listen = \"10.0.0.1:6386\"\ncertificate = \"c\"\nkey = \"k\""), 0);
    }

    #[test]
    fn the_url_is_that_of_the_address_unless_one_is_set() {
        let url = |keys: &str| {
            let listen = "listen = \"10.0.0.1:0\"\n".to_owned();
            let config = parse(&(listen + keys)).expect("is valid");
            config.cluster.public_url("10.0.0.1:6386".parse().expect("an address"))
        };
        assert_eq!(url(""), "http://10.0.0.1:6386");
        assert_eq!(url("certificate = \"c\"\nkey = \"k\""), "https://10.0.0.1:6386");
        assert_eq!(url("url = \"http://boot-1/\""), "http://boot-1");
    }

    #[test]
    fn no_secret_is_among_the_shared_values() {
        let config =
            Config::parse("[cinder]\nauth_url = \"http://k\"\npassword = \"hunter2\"").expect("is valid");
        let text = format!("{:?}", config.shared_values());
        assert!(text.contains("http://k") && !text.contains("hunter2"), "{text}");
    }
}
