//! `[dhcp]`: the ProxyDHCP server.

use std::net::Ipv4Addr;

use super::read::Section;

/// The longest name of an interface (IFNAMSIZ without the zero).
const MAX_INTERFACE_NAME: usize = 15;

/// The longest base URL: a file name in a DHCP answer has at most 254 bytes.
const MAX_URL: usize = 200;

/// `[dhcp]`: the ProxyDHCP server, beside the DHCP server of the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpConfig {
    /// `mode`: whether the server runs.
    pub mode: DhcpMode,
    /// `interfaces`: the names of the interfaces whose machines are answered.
    pub interfaces: Vec<String>,
    /// `unknown`: whether machines without a node are answered.
    pub unknown: UnknownMachines,
    /// `relays`: the addresses (`giaddr`) of the DHCP relays that are answered.
    pub relays: Vec<Ipv4Addr>,
    /// `watch_answers`: whether the replies of other servers to machines are observed, which needs CAP_NET_RAW.
    pub watch_answers: bool,
}

/// The mode of the DHCP service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpMode {
    /// `off`: another DHCP server names the boot file.
    Off,
    /// `proxy`: volboot names the boot file beside a DHCP server that gives the addresses.
    Proxy,
}

/// Whether machines without a node get a boot file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownMachines {
    /// `ignore`: they may belong to another network-boot service.
    Ignore,
    /// `answer`: they boot iPXE, and get the answer of `[boot] unknown`.
    Answer,
}

impl DhcpConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        use UnknownMachines::{Answer, Ignore};
        Self {
            mode: section.choice(
                "mode",
                DhcpMode::Off,
                &[("off", DhcpMode::Off), ("proxy", DhcpMode::Proxy)],
            ),
            interfaces: section.list("interfaces", Vec::new(), parse_interface),
            unknown: section.choice("unknown", Ignore, &[("ignore", Ignore), ("answer", Answer)]),
            relays: section.list("relays", Vec::new(), parse_relay),
            watch_answers: section.flag("watch_answers", false),
        }
    }

    /// The fault of the section as a whole: key and message. `url` is that of `[http]`.
    pub(super) fn check(&self, url: Option<&str>) -> Option<(&'static str, String)> {
        if self.mode == DhcpMode::Off {
            return None;
        }
        if self.interfaces.is_empty() {
            let message = "mode \"proxy\" needs the interfaces to the machines, such as [\"eth0\"]";
            return Some(("dhcp.interfaces", message.to_owned()));
        }
        url.filter(|url| url.len() > MAX_URL).map(|_| {
            let message = format!("has more than {MAX_URL} bytes, which a DHCP answer cannot carry");
            ("http.url", message)
        })
    }
}

fn parse_interface(text: &str) -> Result<String, String> {
    let is_name = !text.is_empty()
        && text.len() <= MAX_INTERFACE_NAME
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if is_name { Ok(text.to_owned()) } else { Err("expected the name of an interface such as eth0".into()) }
}

fn parse_relay(text: &str) -> Result<Ipv4Addr, String> {
    let address = text.parse().ok().filter(|address: &Ipv4Addr| {
        !address.is_unspecified() && !address.is_broadcast() && !address.is_multicast()
    });
    address.ok_or_else(|| "expected the IPv4 address of a DHCP relay such as 10.1.0.1".to_owned())
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn errors(keys: &str) -> Vec<String> {
        let result = Config::parse(&format!("[dhcp]\n{keys}"));
        result.err().unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn interfaces_must_be_named() {
        assert_eq!(
            errors("mode = \"proxy\""),
            ["dhcp.interfaces: mode \"proxy\" needs the interfaces to the machines, such as [\"eth0\"]"]
        );
        assert!(
            errors("mode = \"proxy\"\ninterfaces = [\"eth0\", \"br-lan.7\"]\nrelays = [\"10.1.0.1\"]")
                .is_empty()
        );
        assert!(errors("interfaces = []").is_empty());
        let long = format!(
            "mode = \"proxy\"\ninterfaces = [\"eth0\"]\n[http]\nurl = \"http://{}\"",
            "u".repeat(250)
        );
        assert_eq!(errors(&long), ["http.url: has more than 200 bytes, which a DHCP answer cannot carry"]);
    }

    #[test]
    fn keys_of_sockets_need_a_restart() {
        let config = |keys: &str| Config::parse(&format!("[dhcp]\n{keys}")).expect("is valid");
        let (off, proxy) = (Config::default(), config("mode = \"proxy\"\ninterfaces = [\"eth0\"]"));
        assert_eq!(off.changed_restart_keys(&proxy), ["dhcp.mode"]);
        let watching = config("mode = \"proxy\"\ninterfaces = [\"eth0\"]\nwatch_answers = true");
        assert_eq!(proxy.changed_restart_keys(&watching), ["dhcp.watch_answers"]);
        let other = config(
            "mode = \"proxy\"\ninterfaces = [\"eth1\"]\nunknown = \"answer\"\nrelays = [\"10.1.0.1\"]",
        );
        assert!(proxy.changed_restart_keys(&other).is_empty());
    }

    #[test]
    fn values_are_checked() {
        for keys in [
            "mode = \"server\"",
            "unknown = \"exit\"",
            "interfaces = [\"\"]",
            "interfaces = [\"eth0/1\"]",
            "interfaces = [\"a-name-that-is-too-long\"]",
            "relays = [\"10.0.0.0/8\"]",
            "relays = [\"0.0.0.0\"]",
            "relays = [\"255.255.255.255\"]",
            "relays = [\"fd00::1\"]",
        ] {
            assert_eq!(errors(keys).len(), 1, "{keys}");
        }
    }
}
