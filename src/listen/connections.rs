//! [`ConnectionTable`]: the open connections of a listener, and which one gives way to a new one.
//!
//! A connection costs a client nothing, so their number is bounded twice: for each client, and for the listener. At a
//! bound, the longest idle connection is closed, and the new one is served: idle connections of one client can neither
//! refuse nor delay another. A connection is idle between two requests and before the first one, its TLS handshake
//! included. A response that is still being sent, such as an event stream, is not idle.
//!
//! Connections from this host have no bound of their own, for a proxy that stands for many clients, and give way last.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::counters::ConnectionCounters;

/// Rate limit of the warnings: a client must not be able to fill the log.
const WARNING_INTERVAL: Duration = Duration::from_secs(1);

/// How often a full listener looks for an idle connection.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

type ConnectionId = u64;

/// The open connections.
#[derive(Debug)]
pub(super) struct ConnectionTable {
    total: usize,
    per_client: usize,
    entries: Mutex<Entries>,
    /// A connection was closed, or became idle.
    changed: Notify,
    counters: Arc<ConnectionCounters>,
    last_warning: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Entries {
    connections: HashMap<ConnectionId, ConnectionEntry>,
    clients: HashMap<IpAddr, ClientConnections>,
    /// Idle connections in the order in which they give way; those of this host are last.
    idle: BTreeSet<(bool, Instant, ConnectionId)>,
    last_id: ConnectionId,
}

#[derive(Debug)]
struct ConnectionEntry {
    client: IpAddr,
    is_local: bool,
    /// `None` while a request is processed.
    idle_since: Option<Instant>,
    /// The end of the last response is not in the kernel's send buffer yet.
    is_writing: Arc<AtomicBool>,
    /// Closes the connection.
    displaced: CancellationToken,
    /// Canceled when its file descriptor is closed.
    closed: CancellationToken,
}

/// The connections of one client.
#[derive(Debug, Default)]
struct ClientConnections {
    open: usize,
    idle: BTreeSet<(Instant, ConnectionId)>,
}

/// An accepted connection; leaves the table when it is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection {
    table: Arc<ConnectionTable>,
    id: ConnectionId,
    /// Canceled when the connection gives way to another.
    pub(super) displaced: CancellationToken,
    /// Whether a write is incomplete; the connection's stream sets it.
    pub(super) is_writing: Arc<AtomicBool>,
    closed: CancellationToken,
}

/// A request in progress: its connection is not idle until this is dropped.
#[derive(Debug)]
pub(super) struct ActiveRequest {
    table: Arc<ConnectionTable>,
    id: ConnectionId,
}

impl ConnectionTable {
    pub(super) fn new(total: usize, per_client: usize, counters: Arc<ConnectionCounters>) -> Arc<Self> {
        Arc::new(Self {
            total,
            per_client,
            entries: Mutex::default(),
            changed: Notify::new(),
            counters,
            last_warning: Mutex::default(),
        })
    }

    /// Waits until a new connection has a place: a free one, or that of an idle connection. Meanwhile new connections
    /// wait in the kernel's backlog.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let changed = self.changed.notified();
            {
                let entries = self.entries.lock();
                if entries.connections.len() < self.total || entries.find_idle().is_some() {
                    return;
                }
            }
            // The end of a write is no change, and makes room as well.
            let _ = tokio::time::timeout(POLL_INTERVAL, changed).await;
        }
    }

    /// Admits a new connection, in place of an idle one if necessary. `None` if its client has too many, and all of them
    /// are busy.
    pub(super) fn admit(self: &Arc<Self>, remote: SocketAddr, local: SocketAddr) -> Option<OpenConnection> {
        let client = remote.ip().to_canonical();
        let is_local = client.is_loopback() || client == local.ip().to_canonical();
        let mut entries = self.entries.lock();
        let open = entries.clients.get(&client).map_or(0, |client| client.open);
        if !is_local && open >= self.per_client {
            let Some(victim) = entries.find_idle_of(client) else {
                self.counters.count_refused(remote);
                self.warn(
                    client,
                    "connection refused: the client has connections_per_client, and all are busy",
                );
                return None;
            };
            self.displace(&mut entries, victim);
            self.warn(client, "idle connection closed: the client has more than connections_per_client");
        } else if entries.connections.len() >= self.total
            && let Some(victim) = entries.find_idle()
        {
            self.displace(&mut entries, victim);
            self.warn(client, "idle connection closed: the listener has its maximum of connections");
        }
        let connection = OpenConnection {
            table: Arc::clone(self),
            id: entries.last_id + 1,
            displaced: CancellationToken::new(),
            is_writing: Arc::default(),
            closed: CancellationToken::new(),
        };
        entries.insert(client, is_local, &connection);
        self.counters.set_open(entries.connections.len());
        Some(connection)
    }

    /// Has the longest idle connection closed, to free its file descriptor. Returns the token that is canceled once the
    /// descriptor is free; `None` if no connection is idle.
    pub(super) fn displace_idle(&self) -> Option<CancellationToken> {
        let mut entries = self.entries.lock();
        let victim = entries.find_idle()?;
        self.displace(&mut entries, victim)
    }

    fn displace(&self, entries: &mut Entries, victim: ConnectionId) -> Option<CancellationToken> {
        let entry = entries.remove(victim)?;
        entry.displaced.cancel();
        self.counters.count_displaced();
        Some(entry.closed)
    }

    fn warn(&self, client: IpAddr, message: &'static str) {
        let mut last_warning = self.last_warning.lock();
        let is_due = last_warning.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL);
        if is_due {
            *last_warning = Some(Instant::now());
            let (displaced, refused) = (self.counters.displaced(), self.counters.refused());
            let limit = self.per_client;
            tracing::warn!(%client, connections_per_client = limit, displaced, refused, "{message}");
        }
    }

    fn remove(&self, id: ConnectionId) {
        let mut entries = self.entries.lock();
        entries.remove(id);
        self.counters.set_open(entries.connections.len());
        drop(entries);
        self.changed.notify_one();
    }
}

impl Entries {
    fn insert(&mut self, client: IpAddr, is_local: bool, connection: &OpenConnection) {
        self.last_id = connection.id;
        let entry = ConnectionEntry {
            client,
            is_local,
            idle_since: None,
            is_writing: Arc::clone(&connection.is_writing),
            displaced: connection.displaced.clone(),
            closed: connection.closed.clone(),
        };
        self.connections.insert(connection.id, entry);
        self.clients.entry(client).or_default().open += 1;
        self.set_idle(connection.id, Some(Instant::now()));
    }

    /// Sets since when a connection is idle; `None`: it is not.
    fn set_idle(&mut self, id: ConnectionId, idle_since: Option<Instant>) {
        let Some(entry) = self.connections.get_mut(&id) else { return };
        let Some(client) = self.clients.get_mut(&entry.client) else { return };
        if let Some(before) = std::mem::replace(&mut entry.idle_since, idle_since) {
            self.idle.remove(&(entry.is_local, before, id));
            client.idle.remove(&(before, id));
        }
        if let Some(since) = idle_since {
            self.idle.insert((entry.is_local, since, id));
            client.idle.insert((since, id));
        }
    }

    fn remove(&mut self, id: ConnectionId) -> Option<ConnectionEntry> {
        self.set_idle(id, None);
        let entry = self.connections.remove(&id)?;
        if let Some(client) = self.clients.get_mut(&entry.client) {
            client.open -= 1;
            if client.open == 0 {
                self.clients.remove(&entry.client);
            }
        }
        Some(entry)
    }

    /// The connection that gives way first.
    fn find_idle(&self) -> Option<ConnectionId> {
        self.idle.iter().map(|(_, _, id)| *id).find(|id| self.is_silent(*id))
    }

    /// The longest idle connection of a client.
    fn find_idle_of(&self, client: IpAddr) -> Option<ConnectionId> {
        let idle = &self.clients.get(&client)?.idle;
        idle.iter().map(|(_, id)| *id).find(|id| self.is_silent(*id))
    }

    /// Whether no response is on its way out of the process.
    fn is_silent(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|entry| !entry.is_writing.load(Ordering::Relaxed))
    }
}

impl OpenConnection {
    /// Marks the connection as busy with a request.
    pub(super) fn begin_request(&self) -> ActiveRequest {
        self.table.entries.lock().set_idle(self.id, None);
        ActiveRequest { table: Arc::clone(&self.table), id: self.id }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.closed.cancel();
        self.table.remove(self.id);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.table.entries.lock().set_idle(self.id, Some(Instant::now()));
        self.table.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: &str = "192.0.2.1:8080";

    fn table(total: usize, per_client: usize) -> Arc<ConnectionTable> {
        ConnectionTable::new(total, per_client, Arc::default())
    }

    fn admit(table: &Arc<ConnectionTable>, remote: &str) -> Option<OpenConnection> {
        table.admit(remote.parse().expect("an address"), LOCAL.parse().expect("an address"))
    }

    fn is_open(connection: &OpenConnection) -> bool {
        !connection.displaced.is_cancelled()
    }

    #[test]
    fn the_longest_idle_connection_of_a_client_gives_way() {
        let table = table(100, 3);
        let [first, second, third] =
            [1, 2, 3].map(|port| admit(&table, &format!("192.0.2.7:{port}")).expect("is admitted"));
        let other = admit(&table, "192.0.2.8:1").expect("is admitted");
        // The first is idle for a shorter time than the second, since it has had a request.
        drop(first.begin_request());
        let busy = third.begin_request();
        let fourth = admit(&table, "192.0.2.7:4").expect("is admitted");
        assert!(!is_open(&second) && [&first, &third, &fourth, &other].into_iter().all(is_open));
        let requests = [first.begin_request(), fourth.begin_request()];
        assert!(admit(&table, "192.0.2.7:5").is_none(), "all are busy");
        drop((busy, requests));
        let counters = &table.counters;
        assert_eq!((counters.open(), counters.displaced(), counters.refused()), (4, 1, 1));
        // A displaced connection leaves once.
        drop((first, second, third, fourth, other));
        assert_eq!((counters.open(), table.entries.lock().clients.len()), (0, 0));
    }

    #[test]
    fn clients_on_this_host_have_no_limit_and_give_way_last() {
        let table = table(6, 1);
        let local = ["127.0.0.1:1", "127.0.0.1:2", "[::1]:1", "192.0.2.1:1", "192.0.2.1:2"];
        let local = local.map(|remote| admit(&table, remote).expect("is admitted"));
        let stranger = admit(&table, "192.0.2.7:1").expect("is admitted");
        let other = admit(&table, "192.0.2.8:1").expect("is admitted");
        assert!(!is_open(&stranger) && is_open(&other) && local.iter().all(is_open));
    }

    #[test]
    fn a_response_that_is_being_sent_keeps_its_connection() {
        let table = table(100, 1);
        let connection = admit(&table, "192.0.2.7:1").expect("is admitted");
        drop(connection.begin_request());
        connection.is_writing.store(true, Ordering::Relaxed);
        assert!(admit(&table, "192.0.2.7:2").is_none());
        connection.is_writing.store(false, Ordering::Relaxed);
        assert!(admit(&table, "192.0.2.7:2").is_some() && !is_open(&connection));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_listener_waits_for_an_idle_connection() {
        let table = table(1, 64);
        let connection = admit(&table, "192.0.2.7:1").expect("is admitted");
        let request = connection.begin_request();
        let waits = tokio::time::timeout(Duration::from_secs(1), table.wait_for_room()).await.is_err();
        assert!(waits && table.displace_idle().is_none());
        drop(request);
        table.wait_for_room().await;
        let closed = table.displace_idle().expect("an idle connection");
        assert!(!is_open(&connection) && !closed.is_cancelled(), "its descriptor is still open");
        drop(connection);
        assert!(closed.is_cancelled());
    }
}
