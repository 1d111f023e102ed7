//! What the power of nodes shows to operators: calls to BMCs by result, and the nodes by power state.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::{Power, PowerError};
use crate::model::{Node, PowerState};
use crate::redfish::BmcFault;
use crate::telemetry::PowerReading;

/// An operation on a BMC, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PowerCall {
    /// The power state was read.
    Read,
    /// The machine was switched.
    Switch,
    /// The boot device was read or set.
    BootDevice,
}

impl PowerCall {
    const fn as_label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Switch => "switch",
            Self::BootDevice => "boot_device",
        }
    }
}

/// The nodes with a BMC by power state, as of the last round.
#[derive(Debug, Default)]
pub(super) struct NodeCounts {
    on: AtomicUsize,
    off: AtomicUsize,
    unknown: AtomicUsize,
    /// Nodes with a failing BMC, in any power state.
    failing: AtomicUsize,
}

impl NodeCounts {
    /// Counts the nodes of a round. `is_failing`: whether the BMC of a node fails.
    pub(super) fn count(&self, nodes: &[Node], is_failing: impl Fn(&Node) -> bool) {
        let count = |state: Option<PowerState>| {
            nodes.iter().filter(|node| node.recorded_power_state() == state).count()
        };
        self.on.store(count(Some(PowerState::On)), Ordering::Relaxed);
        self.off.store(count(Some(PowerState::Off)), Ordering::Relaxed);
        self.unknown.store(count(None), Ordering::Relaxed);
        self.failing.store(nodes.iter().filter(|node| is_failing(node)).count(), Ordering::Relaxed);
    }
}

impl Power {
    /// Counts an operation on a BMC by its result.
    pub(super) fn count_call<T>(&self, call: PowerCall, started_at: Instant, result: &Result<T, PowerError>) {
        let result = result.as_ref().map_or_else(PowerError::as_label, |_| "ok");
        self.metrics.count_power_call(call.as_label(), result, started_at.elapsed());
    }

    /// The nodes by power state as of the last round, and the requests to BMCs that are under way.
    pub fn reading(&self) -> PowerReading {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        PowerReading {
            calls_in_flight: self.stations.requests_in_flight(),
            on: read(&self.node_counts.on),
            off: read(&self.node_counts.off),
            unknown: read(&self.node_counts.unknown),
            failing: read(&self.node_counts.failing),
        }
    }
}

impl PowerError {
    /// Label for metrics.
    const fn as_label(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Store(_) => "store",
            Self::ClaimLost => "claim_lost",
            Self::DriverInfo(_) => "driver_info",
            Self::NoEffect { .. } => "no_effect",
            Self::WentOff { .. } => "went_off",
            Self::Bmc(error) => match &error.fault {
                BmcFault::Unusable(_) => "unusable",
                BmcFault::Unreachable(_) => "unreachable",
                BmcFault::Untrusted(_) => "untrusted",
                BmcFault::TimedOut(_) => "timeout",
                BmcFault::Interrupted(_) => "interrupted",
                BmcFault::LoginRefused { .. } => "login",
                BmcFault::NotFound(_) => "not_found",
                BmcFault::SystemUnclear(_) | BmcFault::Invalid { .. } => "invalid",
                BmcFault::Redirected(_) => "redirected",
                BmcFault::Refused { .. } => "refused",
                BmcFault::Unsupported(_) => "unsupported",
                BmcFault::OverrideIgnored { .. } => "override_ignored",
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::StorageInterface;
    use crate::store::{Inventory, MemoryStore};

    #[test]
    fn nodes_are_counted_by_power_state() {
        let store: std::sync::Arc<dyn crate::store::Store> = std::sync::Arc::new(MemoryStore::default());
        let power = Power::new(Inventory::new(store), 8, super::super::PowerLimits::default());
        let node = |state| Node {
            power_state: state,
            ..Node::new(Uuid::new_v4(), "redfish", StorageInterface::Noop, Timestamp::UNIX_EPOCH)
        };
        let nodes = [Some(PowerState::On), Some(PowerState::On), Some(PowerState::Off), None].map(node);
        power.node_counts.count(&nodes, |failing| failing.uuid == nodes[2].uuid);
        let expected = PowerReading { calls_in_flight: 0, on: 2, off: 1, unknown: 1, failing: 1 };
        assert_eq!(power.reading(), expected);
    }
}
