//! Records the DHCP requests of network-boot clients, and other servers' replies to them, in log and timeline.
//!
//! Every request may be forged. Each machine therefore has a budget of records, and all machines without a node share one:
//! a flood fills neither the log nor the timeline, and the metrics count every request.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::offers::OfferNote;
use crate::dhcp::{Exchange, ExchangeResult, Observation, ObservedReply, ReplyKind, RequestKind};
use crate::model::{DhcpAnswer, DhcpStep, Mac, name_architecture};
use crate::telemetry::{DhcpEvent, Event, EventKind};
use crate::timeline::Timeline;

/// Requests are recorded in batches of at most this size, after a pause.
const MAX_BATCH: usize = 1024;
const BATCH_INTERVAL: Duration = Duration::from_millis(50);
const PERIOD: Duration = Duration::from_secs(60);
/// Records of one machine in a period. A boot needs about eight.
const RECORDS_PER_MACHINE: u32 = 24;
/// Records in a period of machines without a node.
const STRANGER_RECORDS: u32 = 6000;
/// Most machines in the table, above what ten thousand machines need that are switched on at once.
const MAX_MACHINES: usize = 40_000;

/// Records each exchange and reply.
pub(super) async fn record_exchanges(
    mut observations: mpsc::Receiver<Observation<OfferNote>>,
    timeline: Timeline,
) {
    let mut pacer = ExchangePacer::new(Instant::now());
    let mut batch = Vec::new();
    while observations.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let is_full = batch.len() == MAX_BATCH;
        let events = batch.drain(..).filter_map(|observation| to_event(observation, &mut pacer, &timeline));
        // In batches: a wake-up for each request would cost more than its answer.
        timeline.record_all(events.collect());
        if !is_full {
            tokio::time::sleep(BATCH_INTERVAL).await;
        }
    }
}

/// The event of an exchange or reply. If its machine or all strangers sent too many, the event is counted only.
fn to_event(
    observation: Observation<OfferNote>,
    pacer: &mut ExchangePacer,
    timeline: &Timeline,
) -> Option<Event> {
    let (mac, is_node) = match &observation {
        Observation::Exchange(exchange) => {
            let is_node = exchange.note.as_ref().is_some_and(|note| note.node.is_some());
            (Mac::new(exchange.client.mac), is_node)
        }
        Observation::Reply(reply) => (Mac::new(reply.mac), false),
    };
    let decision = pacer.check(mac, is_node, Instant::now());
    if let Some(suppressed) = decision.suppressed {
        tracing::warn!(suppressed, "DHCP requests missing from log and timeline: too many arrived");
    }
    let event = match observation {
        Observation::Exchange(exchange) => build_event(exchange, mac),
        Observation::Reply(reply) => build_reply_event(reply, mac),
    };
    if !decision.is_recorded {
        timeline.count_only(&event);
        return None;
    }
    log_event(&event);
    Some(event)
}

fn build_event(exchange: Exchange<OfferNote>, mac: Mac) -> Event {
    let Exchange { client, kind, result, note } = exchange;
    let (step, address, server, watched) = match kind {
        RequestKind::Discover { is_watched } => (DhcpStep::Discover, None, None, is_watched),
        RequestKind::Request { address, server, is_watched } => {
            (DhcpStep::Request, address, server, is_watched)
        }
        RequestKind::BootServer { address } => (DhcpStep::BootServer, Some(address), None, false),
    };
    let (refusal, node) = note.map_or((None, None), |note| (note.refusal, note.node));
    let (answer, file) = match result {
        ExchangeResult::Observed => (None, None),
        ExchangeResult::Answered(file) => (Some(DhcpAnswer::Sent), Some(file.name)),
        ExchangeResult::Declined => (refusal, None),
        ExchangeResult::RelayNotNamed => (Some(DhcpAnswer::RelayNotNamed), None),
        ExchangeResult::RateLimited => (Some(DhcpAnswer::RateLimited), None),
        ExchangeResult::Busy => (Some(DhcpAnswer::StoreUnavailable), None),
        ExchangeResult::TooLong => (Some(DhcpAnswer::Failed), None),
        ExchangeResult::NotSent(error) => {
            tracing::warn!(%mac, cause = %error, "cannot send DHCP answer");
            (Some(DhcpAnswer::Failed), None)
        }
    };
    let (node, name) = node.map_or((None, None), |(node, name)| (Some(node), name));
    let kind = EventKind::Dhcp(DhcpEvent {
        step,
        firmware: name_architecture(client.architecture()).into_owned(),
        ipxe: client.ipxe.is_some(),
        answer,
        file,
        server,
        relay: client.relay,
        watched,
        node,
        name,
    });
    Event::new(Timestamp::now(), Some(mac), address.map(IpAddr::V4), kind)
}

fn build_reply_event(reply: ObservedReply, mac: Mac) -> Event {
    let (step, address) = match reply.kind {
        ReplyKind::Offer(address) => (DhcpStep::Offer, Some(address)),
        ReplyKind::ProxyOffer => (DhcpStep::ProxyOffer, None),
        ReplyKind::Ack(address) => (DhcpStep::Ack, Some(address)),
        ReplyKind::Nak => (DhcpStep::Nak, None),
    };
    let kind = EventKind::Dhcp(DhcpEvent {
        step,
        firmware: name_architecture(reply.architecture).into_owned(),
        ipxe: reply.is_ipxe,
        answer: None,
        file: reply.file,
        server: Some(reply.server),
        relay: None,
        watched: false,
        node: None,
        name: None,
    });
    Event::new(Timestamp::now(), Some(mac), address.map(IpAddr::V4), kind)
}

fn log_event(event: &Event) {
    let EventKind::Dhcp(dhcp) = &event.kind else { return };
    let (mac, address) = (event.mac.map(tracing::field::display), event.address.map(tracing::field::display));
    let DhcpEvent { step, firmware, ipxe, answer, file, server, relay, name, .. } = dhcp;
    let message = if step.is_reply() { "DHCP reply of another server" } else { "DHCP request" };
    let step = step.as_label();
    let answer = answer.as_ref().map(DhcpAnswer::as_str);
    let (server, relay) = (server.map(tracing::field::display), relay.map(tracing::field::display));
    tracing::info!(mac, step, firmware, ipxe, answer, file, address, server, relay, name, "{message}");
}

/// Paces records.
#[derive(Debug)]
struct ExchangePacer {
    period_start: Instant,
    /// Records of each machine, and whether a node was found for it.
    by_machine: HashMap<Mac, (u32, bool)>,
    strangers: u32,
    suppressed: u64,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
struct RecordDecision {
    is_recorded: bool,
    /// Requests suppressed in an earlier period, to be logged now.
    suppressed: Option<u64>,
}

impl ExchangePacer {
    fn new(now: Instant) -> Self {
        Self { period_start: now, by_machine: HashMap::new(), strangers: 0, suppressed: 0 }
    }

    fn check(&mut self, mac: Mac, is_node: bool, now: Instant) -> RecordDecision {
        let mut suppressed = None;
        if now >= self.period_start + PERIOD {
            suppressed = Some(self.suppressed).filter(|count| *count > 0);
            *self = Self::new(now);
        }
        let is_known = self.by_machine.len() < MAX_MACHINES || self.by_machine.contains_key(&mac);
        // A request to another server is not looked up; the machine's earlier one was.
        let is_node = is_node || self.by_machine.get(&mac).is_some_and(|(_, is_node)| *is_node);
        let has_room = is_node || self.strangers < STRANGER_RECORDS;
        let is_recorded = is_known && has_room && {
            let (records, was_node) = self.by_machine.entry(mac).or_default();
            *records += 1;
            *was_node = is_node;
            *records <= RECORDS_PER_MACHINE
        };
        if is_recorded {
            self.strangers += u32::from(!is_node);
        } else {
            self.suppressed += 1;
        }
        RecordDecision { is_recorded, suppressed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(number: u32) -> Mac {
        let [a, b, c, d] = number.to_be_bytes();
        Mac::new([2, 0, a, b, c, d])
    }

    #[test]
    fn records_are_limited_by_machine_and_for_strangers() {
        let start = Instant::now();
        let mut pacer = ExchangePacer::new(start);
        let mut count = |machines: u32, requests: u32, is_node, seconds| {
            let now = start + Duration::from_secs(seconds);
            let decisions = (0..requests).map(|request| pacer.check(mac(request % machines), is_node, now));
            decisions.filter(|decision| decision.is_recorded).count() as u32
        };
        assert_eq!(count(1, 1000, true, 0), RECORDS_PER_MACHINE);
        assert_eq!(count(10_000, 40_000, true, 61), 40_000, "a power failure has ended");
        assert_eq!(count(1_000_000, 1_000_000, false, 122), STRANGER_RECORDS);
        assert_eq!(count(1, 5, true, 123), 5, "strangers take nothing from nodes");
        assert_eq!(count(1, 5, false, 124), 5, "requests that are not looked up belong to the node");
    }

    #[test]
    fn suppressed_requests_are_reported_once() {
        let start = Instant::now();
        let mut pacer = ExchangePacer::new(start);
        let decisions = (0..RECORDS_PER_MACHINE + 7).map(|_| pacer.check(mac(1), true, start));
        assert_eq!(decisions.filter(|decision| !decision.is_recorded).count(), 7);
        let decision = pacer.check(mac(1), true, start + PERIOD);
        assert_eq!(decision, RecordDecision { is_recorded: true, suppressed: Some(7) });
        assert_eq!(pacer.check(mac(1), true, start + 2 * PERIOD).suppressed, None);
    }
}
