//! [`NodeMachine`]: a node's machine behind the API, for the commands that switch it.

use std::error::Error;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::failure::CommandFailure;
use super::http::{Client, RequestFailure, encode_segment};
use super::terminal::text;

/// The interval between reads of the API.
pub(super) const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a command waits for the end of another operation on the node.
const MAX_BUSY_TIME: Duration = Duration::from_secs(30);

/// A node's machine.
pub(super) struct NodeMachine<'a> {
    client: &'a Client,
    /// The node as the operator named it.
    pub(super) name: &'a str,
}

impl<'a> NodeMachine<'a> {
    /// Finds a node that volboot can switch.
    pub(super) async fn find(client: &'a Client, name: &'a str) -> Result<Self, CommandFailure> {
        let machine = Self { client, name };
        let node = machine.read("").await?;
        if node["power_interface"] != "redfish" {
            let driver = text(&node["driver"]);
            let reason =
                format!("driver {driver} has no BMC; with driver redfish, volboot switches the machine");
            return Err(CommandFailure::NoPower(format!("node {name}: {reason}")));
        }
        Ok(machine)
    }

    /// Reads a resource below the node.
    pub(super) async fn read(&self, path: &str) -> Result<Value, CommandFailure> {
        self.client
            .get(&self.path(path))
            .await
            .map_err(|error| CommandFailure::from_request(self.name, &*error))
    }

    /// Sends a command below the node. Another operation on the node may end first.
    async fn send(&self, path: &str, body: &Value) -> Result<(), CommandFailure> {
        let deadline = Instant::now() + MAX_BUSY_TIME;
        loop {
            let Err(error) = self.client.put(&self.path(path), body).await else { return Ok(()) };
            if !is_busy(&*error) || Instant::now() >= deadline {
                return Err(CommandFailure::from_request(self.name, &*error));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    fn path(&self, below: &str) -> String {
        format!("/v1/nodes/{}{below}", encode_segment(self.name))
    }

    /// Checks that the node has a port by which its machine is identified when it boots.
    pub(super) async fn check_ports(&self) -> Result<(), CommandFailure> {
        let ports = self.read("/ports?fields=pxe_enabled").await?;
        let ports = ports["ports"].as_array().map(Vec::as_slice).unwrap_or_default();
        if ports.iter().any(|port| port["pxe_enabled"] == true) {
            return Ok(());
        }
        let name = self.name;
        Err(CommandFailure::Stopped(format!(
            "node {name}: no port is enabled for booting (pxe_enabled), so that the machine would not be recognized"
        )))
    }

    /// Sets the boot device to the network for the next boot, unless it is set for all boots. Returns a description.
    pub(super) async fn boot_from_network(&self) -> Result<String, CommandFailure> {
        const DEVICE: &str = "/management/boot_device";
        let now = self.read(DEVICE).await?;
        let device = text(&now["boot_device"]);
        if matches!(device.as_str(), "pxe" | "uefihttp") && now["persistent"] == true {
            return Ok(format!("boot device is {device} for all boots"));
        }
        self.send(DEVICE, &json!({"boot_device": "pxe", "persistent": false})).await?;
        Ok("boot device set to pxe for the next boot".to_owned())
    }

    /// Starts a power change.
    pub(super) async fn start_power_change(
        &self,
        target: &str,
        timeout: Option<Duration>,
    ) -> Result<(), CommandFailure> {
        let mut body = json!({"target": target});
        if let Some(timeout) = timeout {
            body["timeout"] = timeout.as_secs().max(1).into();
        }
        self.send("/states/power", &body).await
    }

    /// Waits for the end of a power change. Returns the power state.
    pub(super) async fn finish_power_change(&self, deadline: Instant) -> Result<String, CommandFailure> {
        loop {
            let node = self.read("").await?;
            if node["reservation"].is_null() {
                return match node["last_error"].as_str() {
                    None => Ok(text(&node["power_state"])),
                    Some(_) => {
                        Err(CommandFailure::Bmc(format!("node {}: {}", self.name, text(&node["last_error"]))))
                    }
                };
            }
            if Instant::now() >= deadline {
                let target = text(&node["target_power_state"]);
                let text = format!("node {}: time-out while the BMC switches to {target}", self.name);
                return Err(CommandFailure::TimedOut(text));
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}

fn is_busy(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<RequestFailure>().is_some_and(|failure| failure.status == Some(409))
}

/// Parses a duration such as `20m` or `90s`.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>().ok().filter(jiff::SignedDuration::is_positive);
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "expected a duration such as 20m or 90s".to_owned())
}
