//! Refused connections: the reports of the machines behind them are lost.
//!
//! The boot listener refuses a client whose other connections are all busy. Any client can bring that about, and must not
//! make the boots of others doubtful: on an attached network, the address of the client names one card. A router or a proxy
//! stands for any machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio_util::sync::CancellationToken;

use super::FallbackWatch;
use super::reports::ReportNote;
use crate::listen::{ConnectionCounters, RefusedClients};
use crate::model::Mac;

/// The interval at which refused connections are looked for: far shorter than a boot that counts.
const INTERVAL: Duration = Duration::from_secs(1);
/// Why a boot is doubtful whose machine, or any machine, had a connection refused.
const REFUSED: &str = "volboot refused connections of machines";

impl FallbackWatch {
    /// Notes refused connections of the boot listener until `stop` is cancelled.
    pub async fn follow_connections(self, counters: Arc<ConnectionCounters>, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            self.note_refused_connections(counters.take_refused_clients()).await;
        }
    }

    /// Replaces the reverse proxies, each of which is a client that stands for machines.
    pub fn set_proxies(&self, proxies: Vec<IpNet>) {
        *self.shared.proxies.lock() = proxies;
    }

    /// Notes that connections of these clients were refused.
    pub async fn note_refused_connections(&self, refused: RefusedClients) {
        let RefusedClients { clients, are_all } = refused;
        let mut may_be_any = !are_all;
        for client in clients {
            match self.find_refused_card(client).await {
                Some(card) => self.shared.notes.push(card, ReportNote::Doubt(REFUSED)),
                None => may_be_any = true,
            }
        }
        if may_be_any {
            self.shared.notes.push_doubt_of_all(REFUSED);
        }
    }

    /// The card of a client that stands for no other machine.
    async fn find_refused_card(&self, client: SocketAddr) -> Option<Mac> {
        let address = client.ip().to_canonical();
        if self.shared.proxies.lock().iter().any(|proxies| proxies.contains(&address)) {
            return None;
        }
        self.network.find_card(client).await
    }
}
