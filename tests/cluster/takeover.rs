//! 1 and 3: operations on nodes with a BMC, whose instance is killed or suspended; another instance ends them, as Ironic's
//! conductors do.

use std::collections::VecDeque;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::appliance::{Appliance, LONG, Site};
use crate::etcd::{Etcd, Options};
use crate::fake_bmc::{BmcCall, BmcTrouble, FakeBmc};
use crate::{SESSION, run, wait_until};

/// The limit of a takeover after the end of the session.
const TAKEOVER: Duration = Duration::from_secs(5);

/// A node with a BMC.
struct Switched {
    bmc: FakeBmc,
    node: String,
}

impl Switched {
    async fn create(at: &Appliance) -> Self {
        let bmc = FakeBmc::start();
        let body = json!({"driver": "redfish", "driver_info": bmc.driver_info()});
        let (status, node) = at.call("POST", "/v1/nodes", &body).await;
        assert_eq!(status, 201, "{node}");
        let node = format!("/v1/nodes/{}", node["uuid"].as_str().expect("a UUID"));
        Self { bmc, node }
    }

    /// Starts an operation at an instance, whose BMC does not answer this call.
    async fn begin(&self, at: &Appliance, call: BmcCall, kind: &str, target: &str) {
        self.bmc.script(|bmc| bmc.calls.clear());
        self.bmc.fail(call, 1, BmcTrouble::Hang);
        let (status, body) = self.set_state(at, kind, target).await;
        assert_eq!(status, 202, "{body}");
        let is_sent = async || self.bmc.script(|bmc| bmc.faults.get(&call).is_none_or(VecDeque::is_empty));
        wait_until(LONG, "the BMC is called", is_sent).await;
        assert_eq!(self.reservation(at).await, at.name);
    }

    async fn set_state(&self, at: &Appliance, kind: &str, target: &str) -> (u16, Value) {
        at.call("PUT", &format!("{}/states/{kind}", self.node), &json!({ "target": target })).await
    }

    async fn reservation(&self, at: &Appliance) -> Value {
        at.get(&self.node).await["reservation"].clone()
    }

    /// Waits until the node is not reserved any more; returns it.
    async fn wait_for_end(&self, at: &Appliance, within: Duration) -> Value {
        let is_ended = async || self.reservation(at).await.is_null();
        wait_until(within, "the operation is ended", is_ended).await;
        at.get(&self.node).await
    }
}

async fn two_instances(etcd: Etcd) -> (Site, Appliance, Appliance) {
    let site = Site::open(etcd).await;
    let (a, b) = (site.start("boot-1").await, site.start("boot-2").await);
    (site, a, b)
}

#[test]
fn operations_of_a_killed_instance_are_ended_by_another_one() {
    run(Options::default(), |etcd| async move {
        let (_site, mut a, b) = two_instances(etcd).await;
        let switched = Switched::create(&b).await;
        switched.begin(&a, BmcCall::Reset, "power", "power on").await;
        let (status, body) = switched.set_state(&b, "power", "power off").await;
        assert_eq!(status, 409, "the node is reserved: {body}");
        a.kill();
        let node = switched.wait_for_end(&b, SESSION + TAKEOVER).await;
        assert_eq!(node["target_power_state"], Value::Null);
        let error = node["last_error"].as_str().expect("an error");
        assert!(error.contains("The power change was not completed: boot-1 has ended"), "{error}");
        // A provision verb, at an instance that comes back while it is taken over.
        a.restart();
        switched.begin(&a, BmcCall::Read, "provision", "manage").await;
        a.kill();
        a.restart();
        let node = switched.wait_for_end(&b, SESSION + TAKEOVER).await;
        assert_eq!(
            (&node["provision_state"], &node["target_provision_state"]),
            (&json!("enroll"), &Value::Null)
        );
        // The node can be used, at each instance.
        for (instance, target) in [(&a, "power on"), (&b, "power off")] {
            let (status, body) = switched.set_state(instance, "power", target).await;
            assert_eq!(status, 202, "{body}");
            let node = switched.wait_for_end(instance, LONG).await;
            assert_eq!((&node["power_state"], &node["last_error"]), (&json!(target), &Value::Null));
        }
    });
}

#[test]
fn a_woken_instance_does_not_end_the_operation_of_its_successor() {
    run(Options::default(), |etcd| async move {
        let (_site, a, b) = two_instances(etcd).await;
        let switched = Switched::create(&b).await;
        switched.begin(&a, BmcCall::Reset, "power", "power on").await;
        a.signal(Signal::SIGSTOP);
        switched.wait_for_end(&b, SESSION + TAKEOVER).await;
        switched.begin(&b, BmcCall::Reset, "power", "power on").await;
        a.signal(Signal::SIGCONT);
        a.wait_for_readiness(true).await;
        // Its next write comes after its attempt to end the operation.
        Switched::create(&a).await;
        assert!(!switched.bmc.is_on(), "no command was repeated");
        assert_eq!(switched.reservation(&a).await, "boot-2");
        let node = switched.wait_for_end(&b, LONG).await;
        let error = node["last_error"].as_str().expect("an error");
        assert!(error.contains("did not answer"), "of the successor: {error}");
    });
}
