//! [`Answers`]: sends answers, and reports exchanges.
//!
//! Answers to machines without an address are broadcasts, which are the most expensive ones: every port of the link gets a
//! copy. When many machines are switched on at once, several such answers pass the network stack together.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::engine::{PendingAnswer, Transmission};
use super::ports::CLIENT_PORT;
use super::socket::ServerSockets;
use super::{BootPolicy, Exchange, ExchangeResult, NamedFile, Observation};

/// Most datagrams that the kernel segments at once (`UDP_MAX_SEGMENTS`).
const MAX_SEGMENTS: usize = 64;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct ProxyCounters {
    events: AtomicU64,
}

impl ProxyCounters {
    /// Events dropped because the channel was full.
    pub fn events_dropped(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }
}

/// The way back to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ReplyRoute {
    /// The port of the request.
    pub(super) port: u16,
    /// The index of its interface.
    pub(super) interface: i32,
}

/// An answer to send, and the exchange to report then.
pub(super) struct PreparedAnswer<N> {
    route: ReplyRoute,
    transmission: Transmission,
    exchange: Exchange<N>,
}

/// Sends answers, and reports exchanges.
pub(super) struct Answers<P: BootPolicy> {
    pub(super) sockets: Arc<ServerSockets>,
    pub(super) counters: Arc<ProxyCounters>,
    pub(super) policy: Arc<P>,
    pub(super) events: mpsc::Sender<Observation<P::Note>>,
}

impl<P: BootPolicy> Clone for Answers<P> {
    fn clone(&self) -> Self {
        Self {
            sockets: Arc::clone(&self.sockets),
            counters: Arc::clone(&self.counters),
            policy: Arc::clone(&self.policy),
            events: self.events.clone(),
        }
    }
}

impl<P: BootPolicy> Answers<P> {
    /// Builds the answer of a look-up. Without one, the exchange is reported.
    pub(super) fn prepare(
        &self,
        pending: PendingAnswer,
        route: ReplyRoute,
        (file, note): (Option<NamedFile>, P::Note),
    ) -> Option<PreparedAnswer<P::Note>> {
        let (result, transmission) = pending.complete(file);
        let PendingAnswer { client, kind, .. } = pending;
        let exchange = Exchange { client, kind, result, note: Some(note) };
        let Some(transmission) = transmission else {
            self.report_exchange(exchange);
            return None;
        };
        Some(PreparedAnswer { route, transmission, exchange })
    }

    /// Reports that the look-up took too long, or that too many are pending.
    pub(super) fn give_up(&self, pending: PendingAnswer) {
        let PendingAnswer { client, kind, .. } = pending;
        self.report_exchange(Exchange { client, kind, result: ExchangeResult::Busy, note: None });
    }

    /// Sends answers, and reports their exchanges.
    pub(super) fn send(&self, answers: impl IntoIterator<Item = PreparedAnswer<P::Note>>) {
        let mut answers: Vec<_> = answers.into_iter().collect();
        for run in answers.chunk_by_mut(is_sent_together).flat_map(|run| run.chunks_mut(MAX_SEGMENTS)) {
            self.send_run(run);
        }
        for answer in answers {
            self.report_exchange(answer.exchange);
        }
    }

    /// Sends answers that may pass the network stack together.
    fn send_run(&self, run: &mut [PreparedAnswer<P::Note>]) {
        if let [first, _, ..] = &*run {
            let ReplyRoute { port, interface } = first.route;
            let segments: Vec<_> = run.iter().map(|answer| &answer.transmission).collect();
            // Not every interface can.
            if self.sockets.of_port(port).send_segments(&segments, interface).is_ok() {
                return;
            }
        }
        for PreparedAnswer { route, transmission, exchange } in run {
            if let Err(error) = self.sockets.of_port(route.port).send(transmission, route.interface) {
                exchange.result = ExchangeResult::NotSent(error.kind());
            }
        }
    }

    pub(super) fn report_exchange(&self, exchange: Exchange<P::Note>) {
        self.report(Observation::Exchange(exchange));
    }

    pub(super) fn report(&self, observation: Observation<P::Note>) {
        if self.events.try_send(observation).is_err() {
            self.counters.events.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Whether two answers differ in their bytes only. Real machines have an address each: only broadcasts do.
fn is_sent_together<N>(a: &PreparedAnswer<N>, b: &PreparedAnswer<N>) -> bool {
    let is_broadcast = a.transmission.destination == SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
    let properties = |answer: &PreparedAnswer<N>| {
        let Transmission { bytes, destination, source_ip, is_routed } = &answer.transmission;
        (answer.route.port, answer.route.interface, bytes.len(), *destination, *source_ip, *is_routed)
    };
    is_broadcast && properties(a) == properties(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::ports::SERVER_PORT;
    use crate::dhcp::{NetbootClient, RequestKind};

    const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const BROADCAST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT);
    const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 57), CLIENT_PORT);

    fn answer(destination: SocketAddrV4, interface: i32, length: usize) -> PreparedAnswer<()> {
        let client = NetbootClient {
            mac: [2, 0, 0, 0, 0, 1],
            architectures: vec![7],
            vendor_class: "PXEClient".to_owned(),
            ipxe: None,
            relay: None,
            local_ip: SERVER,
        };
        let kind = RequestKind::Discover { is_watched: false };
        PreparedAnswer {
            route: ReplyRoute { port: SERVER_PORT, interface },
            transmission: Transmission {
                bytes: vec![2; length],
                destination,
                source_ip: SERVER,
                is_routed: false,
            },
            exchange: Exchange { client, kind, result: ExchangeResult::Observed, note: None },
        }
    }

    #[test]
    fn broadcasts_of_one_length_and_interface_are_sent_together() {
        let answers = [
            answer(BROADCAST, 2, 300),
            answer(BROADCAST, 2, 300),
            answer(BROADCAST, 2, 310),
            answer(BROADCAST, 3, 310),
            // Another machine may have the address next.
            answer(CLIENT, 3, 300),
            answer(CLIENT, 3, 300),
            answer(BROADCAST, 3, 300),
            answer(BROADCAST, 3, 300),
            answer(BROADCAST, 3, 300),
        ];
        let runs: Vec<_> = answers.chunk_by(is_sent_together).map(<[_]>::len).collect();
        assert_eq!(runs, [2, 1, 1, 1, 1, 3]);
    }
}
