//! File descriptors: the limit of the process (RLIMIT_NOFILE, getrlimit(2)), and what the configured limits need of it.
//!
//! Each connection takes a descriptor, and so does each transfer with a port of its own. Many systems set the soft limit to 1024 for the sake of
//! select(2), which volboot does not use, so the soft limit is raised to the hard one. If that does not suffice, the
//! limits of connections and transfers are lowered: a client over a limit waits, whereas a process without descriptors
//! cannot open any file.

use rustix::process::{Resource, getrlimit, setrlimit};

use super::error::StartError;
use crate::config::{Config, Diagnostic, TransferPorts};
use crate::listen::HttpLimits;

/// Descriptors beside those of connections and transfers: store, history, log, sockets, DNS, netlink, configured files.
const RESERVE: u64 = 128;
/// The least limit with which volboot starts.
const MINIMUM: u64 = 2 * RESERVE;
/// The HTTP listeners.
const LISTENERS: u64 = 2;

/// The shares of the descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DescriptorBudget {
    /// Connections of each HTTP listener.
    pub(super) connections: usize,
    /// Concurrent TFTP transfers. With `ports = "single"` they take no descriptors.
    pub(super) transfers: u32,
}

impl DescriptorBudget {
    /// The shares within the limit of this process.
    pub(super) fn new(config: &Config) -> Self {
        Self::within(config, current_limit())
    }

    /// The shares within `limit` descriptors.
    pub(super) fn within(config: &Config, limit: u64) -> Self {
        let configured =
            Self { connections: HttpLimits::default().connections, transfers: config.tftp.transfers };
        let needed = configured.needed(config);
        if needed <= limit {
            return configured;
        }
        // All shares shrink alike.
        let (available, wanted) = (limit.saturating_sub(RESERVE), needed - RESERVE);
        let shrink = |share: u64| (share * available / wanted).max(1);
        Self {
            connections: shrink(configured.connections as u64) as usize,
            transfers: match config.tftp.ports {
                TransferPorts::Single => configured.transfers,
                TransferPorts::Ephemeral | TransferPorts::Range(_) => {
                    shrink(u64::from(configured.transfers)) as u32
                }
            },
        }
    }

    /// The descriptors that these shares need.
    fn needed(self, config: &Config) -> u64 {
        let calls = u64::from(config.cinder.resolutions);
        let transfers = match config.tftp.ports {
            TransferPorts::Single => 0,
            TransferPorts::Ephemeral | TransferPorts::Range(_) => u64::from(self.transfers),
        };
        RESERVE + LISTENERS * self.connections as u64 + transfers + calls
    }
}

/// Raises the soft limit to the hard one. Fails if volboot cannot work with it.
pub fn raise_descriptor_limit() -> Result<(), StartError> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // A sandbox may forbid the call. The soft limit then counts.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    let limit = current_limit();
    if limit < MINIMUM { Err(StartError::Descriptors { limit, minimum: MINIMUM }) } else { Ok(()) }
}

/// The warning about a limit that is lower than the configured limits need.
pub(super) fn find_shortage(config: &Config) -> Option<Diagnostic> {
    describe_shortage(config, current_limit())
}

fn describe_shortage(config: &Config, limit: u64) -> Option<Diagnostic> {
    let budget = DescriptorBudget::within(config, u64::MAX);
    let needed = budget.needed(config);
    let DescriptorBudget { connections, transfers } = DescriptorBudget::within(config, limit);
    let (transfers, advice) = match config.tftp.ports {
        TransferPorts::Single => (String::new(), ""),
        TransferPorts::Ephemeral | TransferPorts::Range(_) => {
            (format!(", and {transfers} transfers are concurrent"), ", or lower tftp.transfers")
        }
    };
    let message = || {
        format!(
            "the limit of open files is {limit}, and the configured limits need {needed}: until a restart, each listener \
             has {connections} connections{transfers}; set LimitNOFILE={needed} in a drop-in of the service (or \
             `ulimit -n {needed}`){advice}"
        )
    };
    (limit < needed).then(|| Diagnostic { key: None, message: message() })
}

/// The soft limit. An unlimited process has none.
fn current_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limits_fit_the_limit_of_the_service() {
        let unit = include_str!("../../packaging/volboot.service");
        let limit = unit.lines().find_map(|line| line.strip_prefix("LimitNOFILE=")).expect("a limit");
        let config = Config::default();
        assert_eq!(describe_shortage(&config, limit.parse().expect("a number")), None);
    }

    #[test]
    fn shares_shrink_to_a_low_limit() {
        let config = Config::default();
        for limit in [MINIMUM, 300, 1024, 4096] {
            let budget = DescriptorBudget::within(&config, limit);
            assert!(budget.connections >= 10 && budget.transfers >= 50, "{limit}: {budget:?}");
            assert!(
                2 * budget.connections as u64 + u64::from(budget.transfers) + RESERVE <= limit,
                "{limit}: {budget:?}"
            );
            let warning = describe_shortage(&config, limit).expect("a warning").to_string();
            assert!(
                warning.contains("LimitNOFILE=6304") && warning.contains(&limit.to_string()),
                "{warning}"
            );
        }
    }

    #[test]
    fn transfers_through_the_listen_port_take_no_descriptors() {
        let config = Config::parse("[tftp]\nports = \"single\"\ntransfers = 100000").expect("is valid");
        let budget = DescriptorBudget::within(&config, 8192);
        assert_eq!((budget.transfers, describe_shortage(&config, 8192)), (100_000, None));
        let budget = DescriptorBudget::within(&config, 300);
        assert!(budget.transfers == 100_000 && budget.connections >= 70, "{budget:?}");
        let warning = describe_shortage(&config, 300).expect("a warning").to_string();
        assert!(warning.contains("LimitNOFILE=2208") && !warning.contains("transfers"), "{warning}");
    }

    #[test]
    fn transfers_may_take_more_than_half_of_the_descriptors() {
        let config = Config::parse("[tftp]\ntransfers = 5000").expect("is valid");
        let budget = DescriptorBudget::within(&config, 8192);
        assert_eq!((budget.transfers, describe_shortage(&config, 8192)), (5000, None));
    }
}
