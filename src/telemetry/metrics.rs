//! [`Metrics`]: all Prometheus metrics, with name, unit and help text.
//!
//! Metric names are defined only here. Label sets are closed: label values come from the code, never from a request,
//! so the number of series does not grow with the number of machines. Counters and histograms are updated by methods.
//! Gauges are sampled as a [`Reading`] for every scrape.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{
    CallKindLabel, CallLabels, CauseLabel, FileLabel, ListenerLabel, MachineLabel, OutcomeLabel, ReasonLabel,
    ResultLabel, SourceLabel, StateLabel, StepLabel, VersionLabel,
};
use super::reading::{ConnectionReading, Reading};
use crate::model::{BootOutcome, BootStep, RequesterFault, SourceKind, TransferOutcome};

/// Histogram bounds in seconds: a boot request takes some microseconds, a slow Cinder call half a minute.
const BOUNDS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// Histogram bounds in seconds for TFTP transfers, whose duration depends on the network.
const TRANSFER_BOUNDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// All metrics. Cheap to clone: clones share the series.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Series>);

#[derive(Debug)]
struct Series {
    registry: Registry,
    transfers: Family<OutcomeLabel, Counter>,
    transfer_duration: Histogram,
    transfer_bytes: Counter,
    retransmissions: Counter,
    tftp_events_dropped: Gauge,
    tftp_requests_dropped: Gauge,
    http_fetches: Counter,
    http_rejections: Family<ReasonLabel, Counter>,
    sessions: Counter,
    boot_requests: Family<OutcomeLabel, Counter>,
    boot_request_duration: Histogram,
    resolutions: Family<SourceLabel, Histogram>,
    boot_reports: Family<StepLabel, Counter>,
    loop_delays: Counter,
    requester_faults: Family<CauseLabel, Counter>,
    neighbour_changes: Counter,
    cinder_calls: Family<CallLabels, Counter>,
    cinder_call_duration: Family<CallKindLabel, Histogram>,
    store_up: Gauge,
    store_writable: Gauge,
    store_read_duration: Gauge<f64, std::sync::atomic::AtomicU64>,
    file_bytes: Family<FileLabel, Gauge>,
    history_events_queued: Gauge,
    history_events_dropped: Gauge,
    history_commits: Counter,
    history_evictions: Family<MachineLabel, Counter>,
    machines: Family<StateLabel, Gauge>,
    event_subscribers: Gauge,
    logins: Family<ResultLabel, Counter>,
    connections: Family<ListenerLabel, Gauge>,
    connections_displaced: Family<ListenerLabel, Gauge>,
    connections_refused: Family<ListenerLabel, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero.
    pub fn new() -> Self {
        let histogram = || Histogram::new(BOUNDS);
        let mut series = Series {
            registry: Registry::with_prefix("volboot"),
            transfers: Family::default(),
            transfer_duration: Histogram::new(TRANSFER_BOUNDS),
            transfer_bytes: Counter::default(),
            retransmissions: Counter::default(),
            tftp_events_dropped: Gauge::default(),
            tftp_requests_dropped: Gauge::default(),
            http_fetches: Counter::default(),
            http_rejections: Family::default(),
            sessions: Counter::default(),
            boot_requests: Family::default(),
            boot_request_duration: histogram(),
            resolutions: Family::new_with_constructor(histogram),
            boot_reports: Family::default(),
            loop_delays: Counter::default(),
            requester_faults: Family::default(),
            neighbour_changes: Counter::default(),
            cinder_calls: Family::default(),
            cinder_call_duration: Family::new_with_constructor(histogram),
            store_up: Gauge::default(),
            store_writable: Gauge::default(),
            store_read_duration: Gauge::default(),
            file_bytes: Family::default(),
            history_events_queued: Gauge::default(),
            history_events_dropped: Gauge::default(),
            history_commits: Counter::default(),
            history_evictions: Family::default(),
            machines: Family::default(),
            event_subscribers: Gauge::default(),
            logins: Family::default(),
            connections: Family::default(),
            connections_displaced: Family::default(),
            connections_refused: Family::default(),
        };
        series.register();
        Self(Arc::new(series))
    }

    /// Counts a TFTP request that has ended.
    pub fn count_transfer(
        &self,
        outcome: &TransferOutcome,
        bytes: u64,
        retransmissions: u64,
        duration: Duration,
    ) {
        self.0.transfers.get_or_create(&OutcomeLabel { outcome: outcome.as_label() }).inc();
        self.0.retransmissions.inc_by(retransmissions);
        if *outcome == TransferOutcome::Complete {
            self.0.transfer_bytes.inc_by(bytes);
            self.0.transfer_duration.observe(duration.as_secs_f64());
        }
    }

    /// Counts firmware's request for a file over HTTP.
    pub fn count_http_fetch(&self) {
        self.0.http_fetches.inc();
    }

    /// Counts a rejected request to the boot listener. `reason` is a label from the code.
    pub fn count_http_rejection(&self, reason: &'static str) {
        self.0.http_rejections.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts a boot session that has started.
    pub fn count_session(&self) {
        self.0.sessions.inc();
    }

    /// Counts an answered boot request.
    pub fn count_boot_request(&self, outcome: &BootOutcome, duration: Duration) {
        self.0.boot_requests.get_or_create(&OutcomeLabel { outcome: outcome.as_label() }).inc();
        self.0.boot_request_duration.observe(duration.as_secs_f64());
    }

    /// Counts the resolution of a volume, by the source of its connection.
    pub fn count_resolution(&self, source: &SourceKind, duration: Duration) {
        let label = SourceLabel { source: source.as_label() };
        self.0.resolutions.get_or_create(&label).observe(duration.as_secs_f64());
    }

    /// Counts a step that a machine reported. A report without a step counts as `other`.
    pub fn count_boot_report(&self, step: Option<&BootStep>) {
        let step = step.map_or("other", BootStep::as_label);
        self.0.boot_reports.get_or_create(&StepLabel { step }).inc();
    }

    /// Counts a delay by the loop detector.
    pub fn count_loop_delay(&self) {
        self.0.loop_delays.inc();
    }

    /// Counts a boot request or report that was rejected because of the requester's place in the network.
    pub fn count_requester_fault(&self, fault: &RequesterFault) {
        self.0.requester_faults.get_or_create(&CauseLabel { cause: fault.as_label() }).inc();
    }

    /// Counts a neighbour entry that another card took over after the boot script was sent.
    pub fn count_neighbour_change(&self) {
        self.0.neighbour_changes.inc();
    }

    /// Counts a call to Cinder. `kind` and `result` are labels from the code, never text from a response.
    pub fn count_cinder_call(&self, kind: &'static str, result: &'static str, duration: Duration) {
        self.0.cinder_calls.get_or_create(&CallLabels { kind, result }).inc();
        let durations = self.0.cinder_call_duration.get_or_create(&CallKindLabel { kind });
        durations.observe(duration.as_secs_f64());
    }

    /// Counts the check of a password. `result` is a label from the code.
    pub fn count_login(&self, result: &'static str) {
        self.0.logins.get_or_create(&ResultLabel { result }).inc();
    }

    /// Counts a commit to the history.
    pub fn count_history_commit(&self) {
        self.0.history_commits.inc();
    }

    /// Counts a machine that was evicted from the full history. `machine` is a label from the code.
    pub fn count_history_eviction(&self, machine: &'static str) {
        self.0.history_evictions.get_or_create(&MachineLabel { machine }).inc();
    }

    /// Encodes all metrics as OpenMetrics 1.0 text, with the gauges set from `reading`.
    pub fn encode(&self, reading: &Reading) -> String {
        let series = &self.0;
        series.store_up.set(i64::from(reading.store.is_some()));
        series.store_writable.set(i64::from(reading.store_writable));
        series.store_read_duration.set(reading.store.unwrap_or_default().as_secs_f64());
        let files = [("store", reading.store_bytes), ("history", Some(reading.history_bytes))];
        for (file, bytes) in files {
            let Some(bytes) = bytes else { continue };
            series.file_bytes.get_or_create(&FileLabel { file }).set(gauge_value(bytes));
        }
        series.history_events_queued.set(gauge_value(reading.events_queued as u64));
        series.history_events_dropped.set(gauge_value(reading.events_dropped));
        series.tftp_events_dropped.set(gauge_value(reading.tftp_events_dropped));
        series.tftp_requests_dropped.set(gauge_value(reading.tftp_requests_dropped));
        for (state, count) in &reading.machines {
            series.machines.get_or_create(&StateLabel { state }).set(gauge_value(*count as u64));
        }
        series.event_subscribers.set(gauge_value(reading.event_subscribers as u64));
        for ConnectionReading { listener, open, displaced, refused } in &reading.connections {
            let label = ListenerLabel { listener };
            series.connections.get_or_create(&label).set(gauge_value(*open));
            series.connections_displaced.get_or_create(&label).set(gauge_value(*displaced));
            series.connections_refused.get_or_create(&label).set(gauge_value(*refused));
        }
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut out, &series.registry);
        out
    }
}

fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Series {
    /// Registers all metrics. The encoder appends the unit, and `_total` to counters.
    fn register(&mut self) {
        let registry = &mut self.registry;
        let version = Family::<VersionLabel, Gauge>::default();
        version.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build", "Version of the running volboot", version);

        let tftp = registry.sub_registry_with_prefix("tftp");
        tftp.register("transfers", "TFTP requests that have ended, by outcome", self.transfers.clone());
        tftp.register_with_unit(
            "transfer",
            "Duration of complete transfers",
            Unit::Seconds,
            self.transfer_duration.clone(),
        );
        tftp.register_with_unit(
            "sent",
            "Bytes in files sent in full",
            Unit::Bytes,
            self.transfer_bytes.clone(),
        );
        let retransmissions = self.retransmissions.clone();
        tftp.register("retransmissions", "Retransmitted packets", retransmissions);
        let events_dropped = self.tftp_events_dropped.clone();
        tftp.register(
            "events_dropped",
            "Transfers missing from the history because the queue was full",
            events_dropped,
        );
        let requests_dropped = self.tftp_requests_dropped.clone();
        tftp.register(
            "requests_dropped",
            "Requests dropped because no worker took them in time",
            requests_dropped,
        );

        let http = registry.sub_registry_with_prefix("http");
        http.register("fetches", "HTTP requests of firmware for a file", self.http_fetches.clone());

        let rejections = self.http_rejections.clone();
        http.register("rejections", "Rejected requests to the boot listener, by reason", rejections);

        let boot = registry.sub_registry_with_prefix("boot");
        boot.register("sessions", "Boot sessions that have started", self.sessions.clone());
        boot.register("requests", "Answered boot requests, by outcome", self.boot_requests.clone());
        let duration = self.boot_request_duration.clone();
        boot.register_with_unit("request", "Response time of boot requests", Unit::Seconds, duration);
        let resolutions = self.resolutions.clone();
        boot.register_with_unit(
            "resolution",
            "Duration of volume resolutions, by source of the connection",
            Unit::Seconds,
            resolutions,
        );
        boot.register("reports", "Steps reported by machines, by step", self.boot_reports.clone());
        boot.register(
            "requester_faults",
            "Boot requests and reports rejected because of the requester's place in the network, by cause",
            self.requester_faults.clone(),
        );
        boot.register(
            "neighbour_changes",
            "Requesters whose neighbour entry another card took over after the boot script was sent",
            self.neighbour_changes.clone(),
        );
        boot.register("loop_delays", "Delays imposed by the loop detector", self.loop_delays.clone());

        let cinder = registry.sub_registry_with_prefix("cinder");
        cinder.register("calls", "Calls to Cinder, by kind and result", self.cinder_calls.clone());
        let duration = self.cinder_call_duration.clone();
        cinder.register_with_unit("call", "Duration of calls to Cinder, by kind", Unit::Seconds, duration);

        let store = registry.sub_registry_with_prefix("store");
        store.register("up", "Whether the store can be read", self.store_up.clone());
        store.register("writable", "Whether the store accepts changes", self.store_writable.clone());
        let duration = self.store_read_duration.clone();
        store.register_with_unit("read", "Duration of the last test read", Unit::Seconds, duration);
        registry.register_with_unit("file", "File size", Unit::Bytes, self.file_bytes.clone());

        let history = registry.sub_registry_with_prefix("history");
        let events_queued = self.history_events_queued.clone();
        history.register("events_queued", "Events in the queue to the history", events_queued);
        let events_dropped = self.history_events_dropped.clone();
        history.register(
            "events_dropped",
            "Events missing from the history because the queue was full or the file failed",
            events_dropped,
        );
        history.register("commits", "Commits to the history", self.history_commits.clone());
        let evictions = self.history_evictions.clone();
        history.register("evictions", "Machines evicted because the history was full, by kind", evictions);
        registry.register("machines", "Machines by the state of their last boot", self.machines.clone());
        registry.register(
            "logins",
            "Log-ins with a password that was not verified before, by result",
            self.logins.clone(),
        );
        registry.register("connections", "Open connections, by listener", self.connections.clone());
        registry.register(
            "connections_displaced",
            "Idle connections closed for newer ones, by listener",
            self.connections_displaced.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections refused because all others of the client were busy, by listener",
            self.connections_refused.clone(),
        );
        registry.register("event_subscribers", "Subscribers to events", self.event_subscribers.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_encoded() {
        let metrics = Metrics::new();
        let duration = Duration::from_millis(3);
        metrics.count_transfer(&TransferOutcome::Complete, 1000, 2, duration);
        metrics.count_transfer(&TransferOutcome::Probe, 1000, 0, duration);
        metrics.count_http_fetch();
        metrics.count_session();
        metrics.count_boot_request(&BootOutcome::Boot, duration);
        metrics.count_resolution(&SourceKind::Cinder, duration);
        metrics.count_boot_report(Some(&BootStep::Hooked));
        metrics.count_loop_delay();
        metrics.count_requester_fault(&RequesterFault::Inconclusive("dark".into()));
        metrics.count_neighbour_change();
        metrics.clone().count_cinder_call("export", "ok", duration);
        metrics.count_http_rejection("rate_limit");
        metrics.count_login("limited");
        metrics.count_history_commit();
        metrics.count_history_eviction("address");
        let text = metrics.encode(&Reading {
            store: Some(Duration::from_micros(250)),
            store_writable: true,
            events_dropped: 7,
            machines: vec![("booted", 4)],
            connections: vec![ConnectionReading { listener: "http", open: 3, displaced: 2, refused: 1 }],
            ..Reading::default()
        });
        for line in [
            "volboot_tftp_transfers_total{outcome=\"complete\"} 1",
            "volboot_tftp_sent_bytes_total 1000",
            "volboot_tftp_retransmissions_total 2",
            "volboot_tftp_transfer_seconds_count 1",
            "volboot_tftp_events_dropped 0",
            "volboot_tftp_requests_dropped 0",
            "volboot_http_fetches_total 1",
            "volboot_http_rejections_total{reason=\"rate_limit\"} 1",
            "volboot_history_evictions_total{machine=\"address\"} 1",
            "volboot_boot_sessions_total 1",
            "volboot_boot_requests_total{outcome=\"boot\"} 1",
            "volboot_boot_request_seconds_bucket{le=\"0.005\"} 1",
            "volboot_boot_resolution_seconds_count{source=\"cinder\"} 1",
            "volboot_boot_reports_total{step=\"hooked\"} 1",
            "volboot_boot_loop_delays_total 1",
            "volboot_boot_requester_faults_total{cause=\"inconclusive\"} 1",
            "volboot_boot_neighbour_changes_total 1",
            "volboot_cinder_calls_total{kind=\"export\",result=\"ok\"} 1",
            "volboot_cinder_call_seconds_count{kind=\"export\"} 1",
            "volboot_store_up 1",
            "volboot_store_writable 1",
            "volboot_store_read_seconds 0.00025",
            "volboot_history_commits_total 1",
            "volboot_history_events_queued 0",
            "volboot_history_events_dropped 7",
            "volboot_machines{state=\"booted\"} 4",
            "volboot_event_subscribers 0",
            "volboot_logins_total{result=\"limited\"} 1",
            "volboot_connections{listener=\"http\"} 3",
            "volboot_connections_displaced{listener=\"http\"} 2",
            "volboot_connections_refused{listener=\"http\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
