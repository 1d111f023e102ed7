//! Starts the provision verbs: at once for a node without a BMC, and as a [`ProvisionTask`] for one with a BMC.

use std::sync::Arc;

use jiff::Timestamp;

use super::provision::undeploy;
use super::refusal::{OperationRefusal, check_unreserved};
use super::{Operator, ProvisionTask, Verb};
use crate::model::{Node, ProvisionState};
use crate::power::parse_driver_info;

/// A verb, as a client requests it.
#[derive(Debug, Clone, Copy)]
pub struct RequestedVerb<'a> {
    /// The verb.
    pub verb: Verb,
    /// Its name in the request, for error texts.
    pub name: &'a str,
    /// Whether the request had a config drive, whose content is discarded.
    pub has_drive: bool,
}

impl RequestedVerb<'_> {
    /// The task of the verb, if it works on the machine: of a node with a BMC.
    fn find_task(&self, node: &Node) -> Option<ProvisionTask> {
        match self.verb {
            _ if !node.has_bmc() => None,
            Verb::Manage if node.provision_state == ProvisionState::Enroll => Some(ProvisionTask::Verify),
            Verb::Active | Verb::Rebuild => Some(ProvisionTask::Deploy),
            Verb::Deleted => Some(ProvisionTask::Undeploy),
            _ => None,
        }
    }

    /// The node before the verb: notes that its deployment had a config drive.
    fn prepare(&self, node: &Node) -> Node {
        let node = node.clone();
        if !self.has_drive {
            return node;
        }
        Node { instance_info: node.instance_info.with_masked("configdrive"), ..node }
    }

    /// The node at the end of a verb that does nothing to the machine.
    fn finish(&self, node: Node, end: ProvisionState, keep_targets: bool, now: Timestamp) -> Node {
        let verb = self.verb;
        let last_error = verb.last_error(node.provision_state).map(str::to_owned);
        // Before the change: afterwards, a state that was never recorded follows from the new provision state. A BMC
        // tells the state of its machine itself.
        let power = verb.power_state(node.recorded_power_state()).filter(|_| !node.has_bmc());
        let node = Node {
            provision_state: end,
            target_provision_state: None,
            provision_updated_at: Some(now),
            last_error,
            updated_at: Some(now),
            ..node
        };
        let node = match power {
            Some(power) => node.with_power_state(power, now),
            None => node,
        };
        match verb {
            Verb::Deleted => undeploy(node, keep_targets),
            Verb::Active | Verb::Rebuild | Verb::Adopt => Node { undeployed: false, ..node },
            _ => node,
        }
    }
}

impl Operator {
    /// Starts a verb. Returns once it is complete, or once the node is reserved for its task.
    pub async fn start_verb(
        self: &Arc<Self>,
        node: &Node,
        requested: RequestedVerb<'_>,
        now: Timestamp,
    ) -> Result<(), OperationRefusal> {
        let RequestedVerb { verb, name, .. } = requested;
        verb.check(node, name)?;
        if verb.deploys() {
            self.check_deployable(node).await?;
        }
        if let Some(task) = requested.find_task(node) {
            let begin = |old: &Node| {
                let end = verb.check(old, name)?;
                Ok(task.begin(requested.prepare(old), end, &self.conductor.hostname, now))
            };
            let operation = self.begin_operation(node.uuid, begin).await?;
            self.spawn_provision(task, operation);
            return Ok(());
        }
        let keep_targets = self.keep_targets_on_undeploy;
        let change = |old: &Node| {
            check_unreserved(old)?;
            let end = verb.check(old, name)?;
            Ok(requested.finish(requested.prepare(old), end, keep_targets, now))
        };
        let changed = if verb == Verb::Deleted && !keep_targets {
            self.inventory.undeploy_without_targets(node.uuid, change).await
        } else {
            self.inventory.update(node.uuid, |old: &Node, _| change(old)).await
        };
        changed.map(drop).map_err(OperationRefusal::from)
    }

    /// Checks that the node's records allow a boot from its volumes, and that its instance requests no trait that the
    /// node lacks.
    async fn check_deployable(&self, node: &Node) -> Result<(), OperationRefusal> {
        let mut missing = self.boot.check(node).await?.faults;
        missing.extend(node.check_instance_traits().err().map(|error| error.to_string()));
        if node.has_bmc() {
            missing.extend(parse_driver_info(node).err().map(|error| error.to_string()));
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(OperationRefusal::Invalid(format!(
            "Failed to validate deploy or power info for node {}. Error: {}",
            node.uuid,
            missing.join("; ")
        )))
    }
}
