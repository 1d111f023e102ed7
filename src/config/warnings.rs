//! Warnings: a valid configuration with which some machines cannot boot.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::{Config, DhcpMode, Diagnostic, StoreKind};

impl Config {
    /// The warnings about this configuration. `check-config` prints them, and `serve` logs them.
    pub fn warnings(&self) -> Vec<Diagnostic> {
        let routed = self.requesters.routed_networks.iter().filter(|named| {
            let overlaps =
                |allowed: &IpNet| allowed.contains(&named.network()) || named.contains(&allowed.network());
            !self.http.allow.iter().any(overlaps)
        });
        let warn_of_routed = |named| Diagnostic {
            key: Some("boot.routed_networks".to_owned()),
            message: format!("{named} is not in http.allow, so its machines get no response"),
        };
        self.warn_of_listeners()
            .into_iter()
            .chain(self.warn_of_tftp_port())
            .chain(self.cluster.warn_of_plain_http())
            .chain(self.warn_of_window())
            .chain(self.warn_of_lone_cluster())
            .chain(routed.map(warn_of_routed))
            .collect()
    }

    /// The listener for other instances and the shared store need each other.
    fn warn_of_lone_cluster(&self) -> Option<Diagnostic> {
        let message = match (self.store.kind, self.cluster.listen) {
            (StoreKind::Redb, Some(_)) => {
                "the store is a local file (store.kind = \"redb\"), so there are no other instances"
            }
            (StoreKind::Etcd, None) => {
                "is not set: other instances on this etcd do not get the events of this one, and their timelines are \
                 incomplete"
            }
            (StoreKind::Redb, None) | (StoreKind::Etcd, Some(_)) => return None,
        };
        Some(Diagnostic { key: Some("cluster.listen".to_owned()), message: message.to_owned() })
    }

    /// DHCP names the TFTP server by its address alone.
    fn warn_of_tftp_port(&self) -> Option<Diagnostic> {
        let is_usable = |tftp: &SocketAddr| tftp.is_ipv4() && tftp.port() == 69;
        let is_unusable = self.dhcp.mode == DhcpMode::Proxy && !self.tftp.listen.iter().any(is_usable);
        is_unusable.then(|| Diagnostic {
            key: Some("dhcp.mode".to_owned()),
            message:
                "DHCP can only name a TFTP server at port 69 of an IPv4 address, and tftp.listen has none"
                    .to_owned(),
        })
    }

    /// A boot window applies to nodes with a BMC.
    fn warn_of_window(&self) -> Option<Diagnostic> {
        let (key, message) = match self.boot.window {
            None if self.boot.window_reboot => {
                ("boot.window_reboot", "has no effect, because boot.window is \"off\"")
            }
            Some(_) if self.hardware.find("redfish").is_none() => (
                "boot.window",
                "applies to nodes with driver redfish only, and enabled_hardware_types does not contain it",
            ),
            None | Some(_) => return None,
        };
        Some(Diagnostic { key: Some(key.to_owned()), message: message.to_owned() })
    }

    fn warn_of_listeners(&self) -> Vec<Diagnostic> {
        if self.http.url.is_some() {
            return Vec::new();
        }
        let unreachable = self.tftp.listen.iter().filter(|tftp| !is_reachable(self.http.listen, **tftp));
        let warn = |tftp: &SocketAddr| Diagnostic {
            key: Some("http.listen".to_owned()),
            message: format!(
                "{} is not reachable for machines that use TFTP at {tftp}; their boot script names an address of the \
                 boot listener: listen on \"[::]:{}\", which accepts IPv4 too, or set http.url",
                self.http.listen,
                self.http.listen.port()
            ),
        };
        unreachable.map(warn).collect()
    }
}

/// Whether a machine that reaches the TFTP server at its address reaches the boot listener at the address in its
/// script: the bound one, or if that is unspecified, the address at which the TFTP request arrived.
fn is_reachable(http: SocketAddr, tftp: SocketAddr) -> bool {
    let (http, tftp) = (http.ip().to_canonical(), tftp.ip().to_canonical());
    // Linux accepts IPv4 at `[::]` as well.
    let is_dual_stack = http.is_ipv6() && http.is_unspecified();
    let is_same_family = http.is_ipv4() == tftp.is_ipv4();
    (is_dual_stack || is_same_family) && (!http.is_loopback() || tftp.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(tftp: &str, http: &str) -> Vec<String> {
        let text = format!("[tftp]\nlisten = {tftp}\n[http]\n{http}");
        let config = Config::parse(&text).expect("is valid");
        config.warnings().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn boot_listener_that_tftp_machines_cannot_reach() {
        for (tftp, http) in [
            (r#""[::]:69""#, ""),
            (r#"["0.0.0.0:69", "[::]:69"]"#, "listen = \"0.0.0.0:8080\""),
            (r#""[2001:db8::1]:69""#, "listen = \"192.0.2.1:8080\""),
            (r#""0.0.0.0:69""#, "listen = \"[2001:db8::1]:8080\""),
            (r#""0.0.0.0:69""#, "listen = \"127.0.0.1:8080\""),
        ] {
            let warnings = warnings(tftp, http);
            assert_eq!(warnings.len(), 1, "{tftp} {http}: {warnings:?}");
        }
        assert_eq!(
            warnings(r#"["0.0.0.0:69", "[::]:69"]"#, ""),
            [
                "http.listen: 0.0.0.0:8080 is not reachable for machines that use TFTP at [::]:69; their boot script names an \
              address of the boot listener: listen on \"[::]:8080\", which accepts IPv4 too, or set http.url"
            ]
        );
    }

    #[test]
    fn tftp_server_that_dhcp_cannot_name() {
        let warnings = |listen: &str| {
            let text =
                format!("[tftp]\nlisten = {listen}\n[dhcp]\nmode = \"proxy\"\ninterfaces = [\"eth0\"]");
            let warnings = Config::parse(&text).expect("is valid").warnings();
            warnings.iter().any(|warning| warning.key.as_deref() == Some("dhcp.mode"))
        };
        assert!(warnings(r#""0.0.0.0:6969""#) && warnings(r#""[::]:69""#));
        assert!(!warnings(r#"["[::]:69", "192.0.2.1:69"]"#));
    }

    #[test]
    fn boot_window_without_effect() {
        let warnings = |text: &str| {
            let config = Config::parse(text).expect("is valid");
            config.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(warnings("[boot]\nwindow = \"15m\"\nwindow_reboot = true"), Vec::<String>::new());
        assert_eq!(
            warnings("[boot]\nwindow_reboot = true"),
            ["boot.window_reboot: has no effect, because boot.window is \"off\""]
        );
        assert_eq!(
            warnings("enabled_hardware_types = [\"manual-management\"]\n[boot]\nwindow = \"15m\""),
            [
                "boot.window: applies to nodes with driver redfish only, and enabled_hardware_types does not contain it"
            ]
        );
    }

    #[test]
    fn routed_network_outside_the_allowed_ones() {
        let warnings = |networks: &str| {
            let config = Config::parse(&format!("[boot]\nrouted_networks = {networks}")).expect("is valid");
            config.warnings().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(warnings(r#"["10.98.0.0/24", "fd00:98::/64", "0.0.0.0/0"]"#), Vec::<String>::new());
        assert_eq!(
            warnings(r#"["198.51.100.0/24"]"#),
            ["boot.routed_networks: 198.51.100.0/24 is not in http.allow, so its machines get no response"]
        );
    }

    #[test]
    fn cluster_without_a_shared_store_and_the_other_way_round() {
        let etcd = "[store]\nkind = \"etcd\"\n[store.etcd]\nendpoints = [\"https://192.0.2.1:2379\"]\n";
        let cluster = "[cluster]\nlisten = \"192.0.2.2:6386\"\ncertificate = \"/c.pem\"\nkey = \"/k.pem\"\ncacert = \"/ca.pem\"\n";
        let warns = |text: &str, part: &str| {
            let warnings = Config::parse(text).expect("is valid").warnings();
            let key = Some("cluster.listen");
            warnings.iter().any(|warning| warning.key.as_deref() == key && warning.message.contains(part))
        };
        assert!(warns(cluster, "there are no other instances"));
        if cfg!(feature = "etcd") {
            assert!(warns(etcd, "is not set"));
            assert!(!warns(&format!("{etcd}{cluster}"), ""));
        }
        assert!(!warns("", ""));
    }

    #[test]
    fn boot_listener_that_all_machines_reach() {
        assert_eq!(Config::default().warnings(), []);
        for (tftp, http) in [
            (r#"["0.0.0.0:69", "[::]:69"]"#, "listen = \"[::]:8080\""),
            (r#""[::]:69""#, "url = \"http://boot.example.org:8080\""),
            (r#""192.0.2.1:69""#, "listen = \"192.0.2.2:8080\""),
            (r#""127.0.0.1:69""#, "listen = \"127.0.0.1:8080\""),
        ] {
            assert_eq!(warnings(tftp, http), Vec::<String>::new(), "{tftp} {http}");
        }
    }
}
