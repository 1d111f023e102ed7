//! `[tftp]`: the TFTP server for firmware.

use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use ipnet::IpNet;

use super::read::Section;
use super::{parse_network, parse_path};

/// `[tftp]`: the TFTP server for firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TftpConfig {
    /// `listen`: addresses and UDP ports, at least one. An IPv6 address accepts no IPv4.
    pub listen: Vec<SocketAddr>,
    /// `images`: the directories to search for iPXE binaries, in order.
    pub images: Vec<PathBuf>,
    /// `ports`: the UDP ports of transfers.
    pub ports: TransferPorts,
    /// `block_size`: the largest block in bytes. A smaller MTU of the interface lowers it.
    pub block_size: u32,
    /// `window`: the largest number of blocks in flight.
    pub window: u32,
    /// `transfers`: the largest number of concurrent transfers.
    pub transfers: u32,
    /// `transfers_per_client`: the same for one IP address.
    pub transfers_per_client: u32,
    /// `allow`: the networks whose clients may read files; unset: those of `[http] allow`.
    pub allow: Option<Vec<IpNet>>,
}

/// The UDP ports of transfers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferPorts {
    /// `ephemeral`: a random port for each transfer.
    Ephemeral,
    /// `single`: the port of the server.
    Single,
    /// `40000-40100`: a random port of this range for each transfer.
    Range(RangeInclusive<u16>),
}

impl TftpConfig {
    pub(super) fn from_section(section: &mut Section) -> Self {
        Self {
            listen: section.addresses("listen", SocketAddr::from((Ipv4Addr::UNSPECIFIED, 69))),
            images: section.list(
                "images",
                ["/usr/lib/ipxe", "/boot", "/usr/share/ipxe"].map(PathBuf::from).to_vec(),
                parse_path,
            ),
            ports: section.value("ports", TransferPorts::Ephemeral, parse_ports),
            block_size: section.number("block_size", 1468, 512..=65464),
            window: section.number("window", 16, 1..=64),
            transfers: section.number("transfers", 4096, 1..=100_000),
            transfers_per_client: section.number("transfers_per_client", 16, 1..=100_000),
            allow: section.optional_list("allow", parse_network),
        }
    }

    /// The keys that differ in `other` and take effect only at a restart.
    pub(super) fn changed_restart_keys(&self, other: &Self) -> Vec<&'static str> {
        let keys = [
            ("tftp.listen", self.listen != other.listen),
            ("tftp.ports", self.ports != other.ports),
            ("tftp.block_size", self.block_size != other.block_size),
            ("tftp.window", self.window != other.window),
            ("tftp.transfers", self.transfers != other.transfers),
            ("tftp.transfers_per_client", self.transfers_per_client != other.transfers_per_client),
        ];
        keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

fn parse_ports(text: &str) -> Result<TransferPorts, String> {
    let range = || {
        let (first, last) = text.split_once('-')?;
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        (first > 0 && first <= last).then_some(TransferPorts::Range(first..=last))
    };
    match text {
        "ephemeral" => Ok(TransferPorts::Ephemeral),
        "single" => Ok(TransferPorts::Single),
        _ => range().ok_or_else(|| {
            format!("\"{text}\" is not \"ephemeral\", \"single\" or a range such as \"40000-40100\"")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn listen_accepts_one_or_several_distinct_addresses() {
        let read = |text: &str| {
            let mut section = Section::new(toml::from_str(text).expect("is TOML"));
            let listen = TftpConfig::from_section(&mut section).listen;
            (listen, section.finish().iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let (everywhere, other) =
            ("0.0.0.0:69".parse().expect("an address"), "[::]:69".parse().expect("an address"));
        assert_eq!(read("").0, [everywhere]);
        assert_eq!(read("listen = \"[::]:69\""), (vec![other], vec![]));
        assert_eq!(read("listen = [\"0.0.0.0:69\", \"[::]:69\"]"), (vec![everywhere, other], vec![]));
        for (invalid, expected) in [
            ("listen = []", "listen: expected at least one address and port"),
            ("listen = [\"[::]:69\", \"[::]:69\"]", "listen: [::]:69 is listed twice"),
            ("listen = [69]", "listen: expected a list of strings"),
            ("listen = \"everywhere\"", "listen: expected an address and a port such as 0.0.0.0:69"),
        ] {
            let errors = read(invalid).1;
            assert!(errors.iter().any(|error| error == expected), "{invalid}: {errors:?}");
        }
    }

    #[test]
    fn allow_defaults_to_that_of_the_boot_listener() {
        let networks = |text: &str| {
            let config = Config::parse(text).expect("is valid");
            config.tftp_allow().iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let http = "[http]\nallow = [\"192.0.2.0/24\"]\n";
        assert_eq!(networks(http), ["192.0.2.0/24"]);
        assert_eq!(networks(&format!("{http}[tftp]\nallow = [\"198.51.100.0/24\"]")), ["198.51.100.0/24"]);
        assert_eq!(networks(&format!("{http}[tftp]\nallow = []")), [""; 0]);
        let errors = Config::parse("[tftp]\nallow = [\"everybody\"]").expect_err("is invalid");
        assert_eq!(errors[0].to_string(), "tftp.allow: expected a network such as 10.0.0.0/8");
    }

    #[test]
    fn ports_are_a_keyword_or_a_range() {
        assert_eq!(parse_ports("ephemeral"), Ok(TransferPorts::Ephemeral));
        assert_eq!(parse_ports("single"), Ok(TransferPorts::Single));
        assert_eq!(parse_ports("40000-40100"), Ok(TransferPorts::Range(40000..=40100)));
        assert_eq!(parse_ports("69-69"), Ok(TransferPorts::Range(69..=69)));
        for invalid in ["", "any", "40000", "0-10", "200-100", "1-70000", "1 - 2"] {
            let error = parse_ports(invalid).expect_err("is invalid");
            assert!(error.contains("40000-40100"), "{error}");
        }
    }
}
