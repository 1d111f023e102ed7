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
    CallKindLabel, CallLabels, CauseLabel, DhcpLabels, FileLabel, ListenerLabel, MachineLabel, OutcomeLabel,
    PortLabel, ReasonLabel, ResultLabel, SourceLabel, StateLabel, StepLabel,
};
use super::reading::{ConnectionReading, Reading};
use super::series::Series;
use crate::model::{
    BootOutcome, BootStep, DhcpAnswer, DhcpStep, RequesterFault, SourceKind, TransferOutcome,
};

/// Histogram bounds in seconds: a boot request takes some microseconds, a slow Cinder call half a minute.
const BOUNDS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// Histogram bounds in seconds for TFTP transfers, whose duration depends on the network.
const TRANSFER_BOUNDS: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0];

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
            cluster_instances: Gauge::default(),
            cluster_unreachable: Gauge::default(),
            cluster_differing: Gauge::default(),
            cluster_lag: Gauge::default(),
            cluster_joined_events: Counter::default(),
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

    /// Counts events of other instances that were joined with those of this one.
    pub fn count_joined_events(&self, count: u64) {
        self.0.cluster_joined_events.inc_by(count);
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
        if let Some(dhcp) = reading.dhcp {
            for (port, is_served) in [("67", dhcp.discovery), ("4011", true)] {
                series.dhcp_ports.get_or_create(&PortLabel { port }).set(i64::from(is_served));
            }
            series.dhcp_events_dropped.set(gauge_value(dhcp.events_dropped));
        }
        for (state, count) in &reading.machines {
            series.machines.get_or_create(&StateLabel { state }).set(gauge_value(*count as u64));
        }
        series.cluster_instances.set(gauge_value(reading.cluster.instances as u64));
        series.cluster_unreachable.set(gauge_value(reading.cluster.unreachable as u64));
        series.cluster_differing.set(gauge_value(reading.cluster.differing as u64));
        series.cluster_lag.set(reading.cluster.lag.as_secs_f64());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{ClusterReading, DhcpReading};

    #[test]
    fn every_metric_is_encoded() {
        let metrics = Metrics::new();
        let duration = Duration::from_millis(3);
        metrics.count_transfer(&TransferOutcome::Complete, 1000, 2, duration);
        metrics.count_transfer(&TransferOutcome::Probe, 1000, 0, duration);
        metrics.count_http_fetch();
        metrics.count_dhcp_request(&DhcpStep::Discover, Some(&DhcpAnswer::Sent));
        metrics.count_dhcp_request(&DhcpStep::Request, None);
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
        metrics.count_joined_events(4);
        let text = metrics.encode(&Reading {
            store: Some(Duration::from_micros(250)),
            store_writable: true,
            events_dropped: 7,
            dhcp: Some(DhcpReading { discovery: true, events_dropped: 3 }),
            machines: vec![("booted", 4)],
            cluster: ClusterReading {
                instances: 3,
                unreachable: 1,
                differing: 2,
                lag: Duration::from_millis(1500),
            },
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
            "volboot_dhcp_requests_total{step=\"discover\",answer=\"sent\"} 1",
            "volboot_dhcp_requests_total{step=\"request\",answer=\"none\"} 1",
            "volboot_dhcp_port_served{port=\"67\"} 1",
            "volboot_dhcp_port_served{port=\"4011\"} 1",
            "volboot_dhcp_events_dropped 3",
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
            "volboot_cluster_instances 3",
            "volboot_cluster_instances_unreachable 1",
            "volboot_cluster_instances_differing 2",
            "volboot_cluster_lag_seconds 1.5",
            "volboot_cluster_joined_events_total 4",
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
