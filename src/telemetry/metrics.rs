//! [`Metrics`]: all Prometheus metrics. [`Series`] has their names.
//!
//! Label sets are closed: label values come from the code, never from a request,
//! so the number of series does not grow with the number of machines. Counters and histograms are updated by methods.
//! Gauges are sampled as a [`Reading`] for every scrape.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::labels::{
    CallKindLabel, CallLabels, CauseLabel, DhcpLabels, MachineLabel, OutcomeLabel, PhaseLabel, ReasonLabel,
    ResultLabel, SourceLabel, StartLabel, StepLabel,
};
use super::reading::Reading;
use super::series::Series;
use crate::model::{
    BootOutcome, BootStep, BootWindowRefusal, DhcpAnswer, DhcpStep, RequesterFault, SourceKind,
    TransferOutcome,
};

/// Histogram bounds in seconds: a boot request takes some microseconds, a slow Cinder call half a minute.
const BOUNDS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// Histogram bounds in seconds for TFTP transfers, whose duration depends on the network.
const TRANSFER_BOUNDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

/// Histogram bounds in seconds for boots and their phases: a transfer takes some milliseconds, a large server ten minutes.
const BOOT_BOUNDS: [f64; 12] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 90.0, 180.0, 360.0, 900.0];
/// Histogram bounds in seconds for BMCs: a read takes a tenth of a second, a shutdown ten minutes.
const POWER_BOUNDS: [f64; 10] = [0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 20.0, 60.0, 120.0, 600.0];

/// All metrics. Cheap to clone: clones share the series.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Series>);

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
            dhcp_requests: Family::default(),
            dhcp_ports: Family::default(),
            dhcp_events_dropped: Gauge::default(),
            http_fetches: Counter::default(),
            http_rejections: Family::default(),
            sessions: Counter::default(),
            boot_requests: Family::default(),
            boot_request_duration: histogram(),
            resolutions: Family::new_with_constructor(histogram),
            boot_reports: Family::default(),
            loop_delays: Counter::default(),
            requester_faults: Family::default(),
            window_refusals: Family::default(),
            missing_network_boots: Counter::default(),
            neighbour_changes: Counter::default(),
            boot_phases: Family::new_with_constructor(|| Histogram::new(BOOT_BOUNDS)),
            boot_up: Family::new_with_constructor(|| Histogram::new(BOOT_BOUNDS)),
            boots: Family::default(),
            power_calls: Family::default(),
            power_call_duration: Family::new_with_constructor(|| Histogram::new(POWER_BOUNDS)),
            power_calls_in_flight: Gauge::default(),
            power_nodes: Family::default(),
            power_failing: Gauge::default(),
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
            cluster_instances: Gauge::default(),
            cluster_unreachable: Gauge::default(),
            cluster_differing: Gauge::default(),
            cluster_lag: Gauge::default(),
            cluster_joined_events: Counter::default(),
            etcd_members: Gauge::default(),
            etcd_members_reachable: Gauge::default(),
            etcd_age: Gauge::default(),
            etcd_session: Gauge::default(),
            etcd_no_space: Gauge::default(),
            etcd_revision: Gauge::default(),
            etcd_compacted_revision: Gauge::default(),
            machines: Family::default(),
            nodes_in_fallback: Gauge::default(),
            preflight_portals: Family::default(),
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

    /// Counts a DHCP request of a network-boot client; without an answer, it was for another server.
    pub fn count_dhcp_request(&self, step: &DhcpStep, answer: Option<&DhcpAnswer>) {
        let answer = answer.map_or("none", DhcpAnswer::as_label);
        self.0.dhcp_requests.get_or_create(&DhcpLabels { step: step.as_label(), answer }).inc();
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

    /// Counts a boot request that was refused outside of its machine's boot window.
    pub fn count_window_refusal(&self, refusal: BootWindowRefusal) {
        self.0.window_refusals.get_or_create(&ReasonLabel { reason: refusal.as_label() }).inc();
    }

    /// Counts a machine that was switched on to boot from the network, and sent no request.
    pub fn count_missing_network_boot(&self) {
        self.0.missing_network_boots.inc();
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

    /// Counts an operation on a BMC. `kind` and `result` are labels from the code, never text from a BMC.
    pub fn count_power_call(&self, kind: &'static str, result: &'static str, duration: Duration) {
        self.0.power_calls.get_or_create(&CallLabels { kind, result }).inc();
        self.0.power_call_duration.get_or_create(&CallKindLabel { kind }).observe(duration.as_secs_f64());
    }

    /// Observes a phase of a boot that has ended. `phase` is a label from the code.
    pub fn observe_boot_phase(&self, phase: &'static str, duration: Duration) {
        self.0.boot_phases.get_or_create(&PhaseLabel { phase }).observe(duration.as_secs_f64());
    }

    /// Observes the time until a machine reported `up`: since volboot switched it on, or since the first sign of the boot.
    pub fn observe_boot_up(&self, from_power_on: bool, duration: Duration) {
        let start = if from_power_on { "power_on" } else { "first_sign" };
        self.0.boot_up.get_or_create(&StartLabel { start }).observe(duration.as_secs_f64());
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

    /// Counts events of other instances that were joined with those of this one.
    pub fn count_joined_events(&self, count: u64) {
        self.0.cluster_joined_events.inc_by(count);
    }

    /// Encodes all metrics as OpenMetrics 1.0 text, with the gauges set from `reading`.
    pub fn encode(&self, reading: &Reading) -> String {
        self.0.set_gauges(reading);
        let mut out = String::new();
        // Writing to a `String` cannot fail.
        let _ = text::encode(&mut out, &self.0.registry);
        out
    }
}

#[cfg(test)]
mod tests;
