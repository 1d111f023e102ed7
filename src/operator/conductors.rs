//! Conductors, in Ironic's terms: the instances on the store.

use jiff::Timestamp;

use super::Operator;
use crate::cluster::InstanceStatus;

/// A conductor: this process, or another instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConductorStatus {
    /// The name of the instance; without a configured one, that of its host.
    pub hostname: String,
    /// The conductor group.
    pub group: String,
    /// Whether the instance has a session in the store.
    pub is_alive: bool,
    /// The start of the process.
    pub started_at: Timestamp,
    /// The last sign of life; `None` for this process.
    pub updated_at: Option<Timestamp>,
}

impl Operator {
    /// Lists the conductors by name.
    pub fn conductors(&self) -> Vec<ConductorStatus> {
        let own = ConductorStatus {
            hostname: self.conductor.hostname.clone(),
            group: self.conductor.group.to_string(),
            is_alive: true,
            started_at: self.appliance.started_at,
            updated_at: None,
        };
        let others = self.membership.instances().into_iter().filter(|instance| !instance.is_self);
        let show = |instance: InstanceStatus| ConductorStatus {
            hostname: instance.name.to_string(),
            group: instance.conductor_group,
            is_alive: instance.registered,
            started_at: instance.started_at,
            updated_at: instance.last_answer_at,
        };
        let mut conductors: Vec<_> = [own].into_iter().chain(others.map(show)).collect();
        conductors.sort_by(|a, b| a.hostname.cmp(&b.hostname));
        conductors
    }
}
