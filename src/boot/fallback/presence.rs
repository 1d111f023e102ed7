//! [`PresenceChecks`]: asks a machine shortly before its boot would count as failed whether it still answers on the network.
//!
//! A lost `up` report leaves no trace, but a running system answers. A system that has stopped does not:
//! by a panic, or before its kernel. So a long boot counts as failed only if its machine was silent.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::FallbackWatch;
use crate::model::{FallbackState, Mac, NeighbourCheck};
use crate::neighbours::{Neighbours, Presence};

/// Why a boot cannot count whose machine answers.
const ANSWERS: &str = "the machine still answered on the network, so its system may be up";

/// What the attached networks show of a machine.
pub trait AttachedNetwork: fmt::Debug + Send + Sync {
    /// Finds whether the machine with this address answers. Limited in time.
    fn find_presence(&self, address: IpAddr) -> Pin<Box<dyn Future<Output = Presence> + Send + '_>>;

    /// Finds the card of a client; `None`: the client is on no attached network, or is not known any more. Limited in time.
    fn find_card(&self, client: SocketAddr) -> Pin<Box<dyn Future<Output = Option<Mac>> + Send + '_>>;
}

impl AttachedNetwork for Neighbours {
    fn find_presence(&self, address: IpAddr) -> Pin<Box<dyn Future<Output = Presence> + Send + '_>> {
        Box::pin(Neighbours::find_presence(self, address))
    }

    fn find_card(&self, client: SocketAddr) -> Pin<Box<dyn Future<Output = Option<Mac>> + Send + '_>> {
        Box::pin(async move { self.check(client, Ipv4Addr::UNSPECIFIED.into()).await.mac() })
    }
}

/// The checks that are due: one per node at most.
#[derive(Debug, Default)]
pub(super) struct PresenceChecks(Mutex<HashMap<Uuid, JoinHandle<()>>>);

/// A script that left for a machine.
#[derive(Debug, Clone)]
pub(super) struct SentScript {
    pub(super) node: Uuid,
    pub(super) journey: String,
    /// The number of the script within the journey.
    pub(super) number: u32,
}

impl PresenceChecks {
    /// Ends the check of a node that has no watched boot any more.
    pub(super) fn end(&self, node: Uuid) {
        if let Some(check) = self.0.lock().remove(&node) {
            check.abort();
        }
    }

    fn replace(&self, node: Uuid, check: JoinHandle<()>) {
        if let Some(earlier) = self.0.lock().insert(node, check) {
            earlier.abort();
        }
    }
}

impl Drop for PresenceChecks {
    fn drop(&mut self) {
        self.0.get_mut().values().for_each(JoinHandle::abort);
    }
}

impl SentScript {
    /// Notes the result of a check, if the machine is still in the boot of this script.
    fn note(&self, state: &mut FallbackState, presence: Presence) {
        let Some(boot) = state.boot.as_mut() else { return };
        if boot.journey != self.journey || boot.scripts != self.number {
            return;
        }
        match presence {
            Presence::Answers => drop(boot.doubt.get_or_insert_with(|| ANSWERS.to_owned())),
            Presence::Silent => boot.is_down = true,
            Presence::Unknown => {}
        }
    }
}

impl FallbackWatch {
    /// Asks the machine that took a script after this delay. Replaces the check of its last script.
    pub(super) fn schedule_check(&self, script: SentScript, place: &NeighbourCheck, delay: Duration) {
        // Only on an attached network does silence mean anything.
        let NeighbourCheck::Entry { address, .. } = *place else {
            return self.shared.presence_checks.end(script.node);
        };
        let (node, records) = (script.node, self.records.clone());
        let network = self.network.clone();
        let check = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            let presence = network.find_presence(address).await;
            tracing::debug!(%node, %address, ?presence, "machine asked for the fallback");
            // Without this note, the boot does not count.
            if let Err(error) = records.change(node, |state| script.note(state, presence)).await {
                tracing::warn!(%node, %error, "cannot record whether a machine answers");
            }
        });
        self.shared.presence_checks.replace(node, check);
    }
}
