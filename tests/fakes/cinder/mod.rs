//! An in-memory Cinder with the API calls that volboot uses, modelled on observations of a real Cinder 28.0. It
//! injects faults: delays, errors, hangs, and calls that take effect without a response.
#![allow(dead_code, reason = "each including test program uses a part")]

mod handlers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use volboot::listen::{HttpLimits, Listener};

use handlers::router;

/// The project id in the paths.
pub(crate) const PROJECT: &str = "13bf5aa8184c466e97f60b1b2a0d4c11";

/// The API calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    Ping,
    Volume,
    List,
    Show,
    Reserve,
    Export,
    Complete,
    Delete,
}

/// An injected fault of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The call fails with this status, without effect.
    Status(u16),
    /// The call has no effect and no response.
    Hang,
    /// The call takes effect, but its response is 500.
    DoneButFailed,
    /// The call takes effect and has no response.
    DoneButSilent,
    /// The call takes effect at once and responds after this delay.
    LateResponse(Duration),
    /// The call takes effect and responds after this delay.
    Slow(Duration),
}

#[derive(Debug, Clone)]
#[allow(clippy::struct_field_names, reason = "Cinder's names")]
pub(crate) struct Volume {
    pub(crate) status: String,
    pub(crate) multiattach: bool,
    pub(crate) encrypted: bool,
    pub(crate) volume_type: &'static str,
    pub(crate) transport: &'static str,
    /// The whole `connection_info` of an export, in place of the default one.
    pub(crate) connection: Option<Value>,
    /// Whether the driver reads `connector['ip']`, as VNX's does.
    pub(crate) needs_ip: bool,
    /// Counts the changes of the volume's record.
    pub(crate) changes: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) volume: String,
    pub(crate) status: &'static str,
    pub(crate) instance: Option<String>,
    pub(crate) connection: Value,
    pub(crate) connector: Value,
    /// The host and the device of the last connector, kept while the attachment is exported anew.
    pub(crate) host: Option<String>,
    pub(crate) device: Option<String>,
}

/// What volboot's user may see and do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    /// Whether volumes show the hosts of their attachments.
    pub(crate) sees_hosts: bool,
    /// Whether the user's project has the volumes. Otherwise the list of attachments is empty without `all_tenants`.
    pub(crate) owns_volumes: bool,
}

/// A user of another project with the role admin.
pub(crate) const ADMIN: Rights = Rights { sees_hosts: true, owns_volumes: false };
/// A member of the project that has the volumes.
pub(crate) const MEMBER: Rights = Rights { sees_hosts: false, owns_volumes: true };

#[derive(Debug, Default)]
struct CloudState {
    volumes: BTreeMap<String, Volume>,
    attachments: BTreeMap<String, Attachment>,
    calls: Vec<(Operation, String)>,
    /// The calls for each volume that took effect.
    effects: BTreeMap<String, Vec<Operation>>,
    faults: BTreeMap<Operation, (Fault, usize)>,
    portal: String,
    /// The value of `encrypted` in `connection_info`.
    encrypted_connections: bool,
    rights: Option<Rights>,
    /// Whether Nova answers Cinder, which asks Nova before the deletion of a server's attachment.
    nova_is_away: bool,
    /// Concurrent calls: now, and the maximum so far.
    concurrent_calls: (usize, usize),
}

#[derive(Debug)]
struct Inner {
    state: Mutex<CloudState>,
    delay: Duration,
    permits: Semaphore,
}

/// A running fake. Stops on drop.
#[derive(Debug)]
pub(crate) struct FakeCinder {
    inner: Arc<Inner>,
    address: std::net::SocketAddr,
    _stop: DropGuard,
}

impl FakeCinder {
    /// Starts a Cinder without delay or limits.
    pub(crate) fn start() -> Self {
        Self::with_limits(Duration::ZERO, Semaphore::MAX_PERMITS)
    }

    /// Starts a Cinder with a delay for each call and a limit of concurrent calls. A delayed call takes effect even if
    /// its client disconnects.
    pub(crate) fn with_limits(delay: Duration, permits: usize) -> Self {
        let state = CloudState { portal: "192.0.2.1:3260".into(), ..CloudState::default() };
        let inner = Arc::new(Inner { state: Mutex::new(state), delay, permits: Semaphore::new(permits) });
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).expect("a free port exists");
        let address = listener.local_addr();
        let stop = CancellationToken::new();
        // A hanging call must outlast the time-out of every caller.
        let limits = HttpLimits {
            request: Duration::from_secs(600),
            connections: 8192,
            connections_per_client: 8192,
            ..HttpLimits::default()
        };
        tokio::spawn(listener.serve(router(Arc::clone(&inner)), limits, stop.clone(), Duration::ZERO));
        Self { inner, address, _stop: stop.drop_guard() }
    }

    /// The endpoint, without the project.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v3", self.address)
    }

    fn lock(&self) -> MutexGuard<'_, CloudState> {
        self.inner.lock()
    }

    /// Adds an available volume.
    pub(crate) fn add_volume(&self, id: &str, change: impl FnOnce(&mut Volume)) {
        let status = "available".to_owned();
        let mut volume = Volume {
            status,
            multiattach: false,
            encrypted: false,
            volume_type: "chap",
            transport: "iscsi",
            connection: None,
            needs_ip: false,
            changes: 0,
        };
        change(&mut volume);
        self.lock().volumes.insert(id.to_owned(), volume);
    }

    /// Changes a volume, as an operator may. Like Cinder's API, the caller counts the change, or does not.
    pub(crate) fn change_volume(&self, id: &str, change: impl FnOnce(&mut Volume)) {
        change(self.lock().volumes.get_mut(id).expect("the volume exists"));
    }

    /// Attaches a volume for a server as Nova does: with the connector that Nova has for it.
    pub(crate) fn attach_for_server(
        &self,
        volume: &str,
        server: &str,
        host: Option<&str>,
        device: Option<&str>,
    ) -> String {
        let id = self.reserve_for_another(volume, Some(server));
        {
            let mut state = self.lock();
            let portal = state.portal.clone();
            let attachment = state.attachments.get_mut(&id).expect("the attachment exists");
            (attachment.host, attachment.device) = (host.map(str::to_owned), device.map(str::to_owned));
            attachment.connector = json!({"host": host, "mountpoint": device});
            attachment.connection = connection(volume, "iscsi", &portal, false);
        }
        self.attach_for_another(&id);
        id
    }

    /// Sets what volboot's user may see and do.
    pub(crate) fn set_rights(&self, rights: Rights) {
        self.lock().rights = Some(rights);
    }

    /// Takes Nova away from Cinder, or brings it back.
    pub(crate) fn set_nova_away(&self, is_away: bool) {
        self.lock().nova_is_away = is_away;
    }

    /// The device name of an attachment, as the volume shows it.
    pub(crate) fn device(&self, id: &str) -> Option<String> {
        self.lock().attachments.get(id).and_then(|attachment| attachment.device.clone())
    }

    /// Reserves a volume for another client; returns the attachment.
    pub(crate) fn reserve_for_another(&self, volume: &str, instance: Option<&str>) -> String {
        let id = Uuid::new_v4().to_string();
        let instance = instance.map(str::to_owned);
        let mut state = self.lock();
        let attachment = Attachment {
            volume: volume.into(),
            status: "reserved",
            instance,
            connection: Value::Null,
            connector: Value::Null,
            host: None,
            device: None,
        };
        state.attachments.insert(id.clone(), attachment);
        state.update_volume_status(volume);
        id
    }

    /// Completes an attachment of another client.
    pub(crate) fn attach_for_another(&self, attachment: &str) {
        let mut state = self.lock();
        let attachment = state.attachments.get_mut(attachment).expect("the attachment exists");
        attachment.status = "attached";
        let volume = attachment.volume.clone();
        state.update_volume_status(&volume);
    }

    /// Sets the status of an attachment.
    pub(crate) fn set_attachment_status(&self, id: &str, status: &'static str) {
        self.lock().attachments.get_mut(id).expect("the attachment exists").status = status;
    }

    /// Deletes an attachment, as an operator may.
    pub(crate) fn detach_by_hand(&self, id: &str) {
        let mut state = self.lock();
        if let Some(attachment) = state.attachments.remove(id) {
            state.update_volume_status(&attachment.volume);
        }
    }

    /// Injects a fault into the next `times` calls of an operation.
    pub(crate) fn inject_fault(&self, operation: Operation, fault: Fault, times: usize) {
        self.lock().faults.insert(operation, (fault, times));
    }

    /// Injects a fault into all further calls.
    pub(crate) fn inject_faults(&self, fault: Fault) {
        for operation in [
            Operation::Ping,
            Operation::Volume,
            Operation::List,
            Operation::Show,
            Operation::Reserve,
            Operation::Export,
            Operation::Complete,
            Operation::Delete,
        ] {
            self.inject_fault(operation, fault, usize::MAX);
        }
    }

    /// Removes all faults.
    pub(crate) fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// The maximum of concurrent calls so far.
    pub(crate) fn max_concurrent_calls(&self) -> usize {
        self.lock().concurrent_calls.1
    }

    /// Marks all further connections as encrypted.
    pub(crate) fn encrypt_connections(&self) {
        self.lock().encrypted_connections = true;
    }

    /// Exports all further connections at this portal.
    pub(crate) fn move_portal(&self, portal: &str) {
        portal.clone_into(&mut self.lock().portal);
    }

    /// The calls since the last `take_calls`.
    pub(crate) fn take_calls(&self) -> Vec<Operation> {
        std::mem::take(&mut self.lock().calls).into_iter().map(|(operation, _)| operation).collect()
    }

    /// The calls for each volume that took effect since the last `take_effects`. Lists and reads of attachments count.
    pub(crate) fn take_effects(&self) -> BTreeMap<String, Vec<Operation>> {
        std::mem::take(&mut self.lock().effects)
    }

    pub(crate) fn status(&self, volume: &str) -> String {
        self.lock().volumes.get(volume).map(|volume| volume.status.clone()).unwrap_or_default()
    }

    /// Ids and statuses of a volume's attachments.
    pub(crate) fn attachments(&self, volume: &str) -> Vec<(String, &'static str)> {
        let state = self.lock();
        let of_volume = state.attachments.iter().filter(|(_, attachment)| attachment.volume == volume);
        of_volume.map(|(id, attachment)| (id.clone(), attachment.status)).collect()
    }

    /// The connector properties of an attachment.
    pub(crate) fn connector(&self, id: &str) -> Value {
        self.lock().attachments.get(id).map(|attachment| attachment.connector.clone()).unwrap_or_default()
    }
}

/// The connection of an export.
fn connection(volume: &str, transport: &str, portal: &str, encrypted: bool) -> Value {
    json!({
        "driver_volume_type": transport, "target_portal": portal, "target_lun": 1,
        "target_iqn": format!("iqn.2010-10.org.openstack:volume-{volume}"), "encrypted": encrypted,
        "auth_method": "CHAP", "auth_username": "boot", "auth_password": "chapsecret000001",
    })
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, CloudState> {
        self.state.lock()
    }
}

impl CloudState {
    fn start_call(&mut self) {
        let (now, max) = self.concurrent_calls;
        self.concurrent_calls = (now + 1, max.max(now + 1));
    }

    /// Counts a call for a volume.
    fn count_effect(&mut self, volume: &str, operation: Operation) {
        self.effects.entry(volume.to_owned()).or_default().push(operation);
    }

    /// Counts a call for the volume of an attachment.
    fn count_effect_on(&mut self, attachment: &str, operation: Operation) {
        if let Some(volume) = self.attachments.get(attachment).map(|attachment| attachment.volume.clone()) {
            self.count_effect(&volume, operation);
        }
    }

    /// Derives a volume's status from its attachments.
    fn update_volume_status(&mut self, volume: &str) {
        let statuses: Vec<_> = self
            .attachments
            .values()
            .filter(|attachment| attachment.volume == volume)
            .map(|attachment| attachment.status)
            .collect();
        let status =
            ["attaching", "attached", "reserved"].into_iter().find(|status| statuses.contains(status));
        if let Some(volume) = self.volumes.get_mut(volume) {
            volume.status = match status {
                None => "available",
                Some("attached") => "in-use",
                Some(status) => status,
            }
            .into();
            volume.changes += 1;
        }
    }

    fn attachment_json(&self, id: &str) -> Option<Value> {
        let attachment = self.attachments.get(id)?;
        Some(json!({
            "id": id, "status": attachment.status, "instance": attachment.instance,
            "volume_id": attachment.volume, "attached_at": "", "detached_at": "", "attach_mode": "rw",
            "connection_info": attachment.connection,
        }))
    }
}
