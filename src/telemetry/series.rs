//! [`Series`]: the series of all metrics, and their registration with name, unit and help text.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::labels::{
    BootLabels, CallKindLabel, CallLabels, CauseLabel, DhcpLabels, FileLabel, ListenerLabel, MachineLabel,
    OutcomeLabel, PhaseLabel, PortLabel, ReasonLabel, ResultLabel, SourceLabel, StartLabel, StateLabel,
    StepLabel, VersionLabel,
};

#[derive(Debug)]
pub(super) struct Series {
    pub(super) registry: Registry,
    pub(super) transfers: Family<OutcomeLabel, Counter>,
    pub(super) transfer_duration: Histogram,
    pub(super) transfer_bytes: Counter,
    pub(super) retransmissions: Counter,
    pub(super) tftp_events_dropped: Gauge,
    pub(super) tftp_requests_dropped: Gauge,
    pub(super) dhcp_requests: Family<DhcpLabels, Counter>,
    pub(super) dhcp_ports: Family<PortLabel, Gauge>,
    pub(super) dhcp_events_dropped: Gauge,
    pub(super) http_fetches: Counter,
    pub(super) http_rejections: Family<ReasonLabel, Counter>,
    pub(super) sessions: Counter,
    pub(super) boot_requests: Family<OutcomeLabel, Counter>,
    pub(super) boot_request_duration: Histogram,
    pub(super) resolutions: Family<SourceLabel, Histogram>,
    pub(super) boot_reports: Family<StepLabel, Counter>,
    pub(super) loop_delays: Counter,
    pub(super) requester_faults: Family<CauseLabel, Counter>,
    pub(super) neighbour_changes: Counter,
    pub(super) boot_phases: Family<PhaseLabel, Histogram>,
    pub(super) boot_up: Family<StartLabel, Histogram>,
    pub(super) boots: Family<BootLabels, Gauge>,
    pub(super) power_calls: Family<CallLabels, Counter>,
    pub(super) power_call_duration: Family<CallKindLabel, Histogram>,
    pub(super) power_calls_in_flight: Gauge,
    pub(super) power_nodes: Family<StateLabel, Gauge>,
    pub(super) power_failing: Gauge,
    pub(super) window_refusals: Family<ReasonLabel, Counter>,
    pub(super) missing_network_boots: Counter,
    pub(super) cinder_calls: Family<CallLabels, Counter>,
    pub(super) cinder_call_duration: Family<CallKindLabel, Histogram>,
    pub(super) store_up: Gauge,
    pub(super) store_writable: Gauge,
    pub(super) store_read_duration: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(super) file_bytes: Family<FileLabel, Gauge>,
    pub(super) history_events_queued: Gauge,
    pub(super) history_events_dropped: Gauge,
    pub(super) history_commits: Counter,
    pub(super) history_evictions: Family<MachineLabel, Counter>,
    pub(super) cluster_instances: Gauge,
    pub(super) cluster_unreachable: Gauge,
    pub(super) cluster_differing: Gauge,
    pub(super) cluster_lag: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(super) cluster_joined_events: Counter,
    pub(super) etcd_members: Gauge,
    pub(super) etcd_members_reachable: Gauge,
    pub(super) etcd_age: Gauge<f64, std::sync::atomic::AtomicU64>,
    pub(super) etcd_session: Gauge,
    pub(super) etcd_no_space: Gauge,
    pub(super) etcd_revision: Gauge,
    pub(super) etcd_compacted_revision: Gauge,
    pub(super) machines: Family<StateLabel, Gauge>,
    pub(super) nodes_in_fallback: Gauge,
    pub(super) preflight_portals: Family<StateLabel, Gauge>,
    pub(super) event_subscribers: Gauge,
    pub(super) logins: Family<ResultLabel, Counter>,
    pub(super) connections: Family<ListenerLabel, Gauge>,
    pub(super) connections_displaced: Family<ListenerLabel, Gauge>,
    pub(super) connections_refused: Family<ListenerLabel, Gauge>,
}

impl Series {
    /// Registers all metrics. The encoder appends the unit, and `_total` to counters.
    pub(super) fn register(&mut self) {
        self.register_listeners();
        let registry = &mut self.registry;
        let version = Family::<VersionLabel, Gauge>::default();
        version.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build", "Version of the running volboot", version);

        self.register_boots();
        let registry = &mut self.registry;
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
        registry.register(
            "nodes_in_fallback",
            "Nodes whose machines boot from their fallback, after failed boots of their own volume",
            self.nodes_in_fallback.clone(),
        );
        registry.register(
            "preflight_portals",
            "Portals of volumes with several paths, by whether they answer this host",
            self.preflight_portals.clone(),
        );
        registry.register("event_subscribers", "Subscribers to events", self.event_subscribers.clone());
        self.register_power();
        self.register_cluster();
        self.register_etcd();
    }

    fn register_boots(&mut self) {
        let registry = &mut self.registry;
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
        boot.register(
            "window_refusals",
            "Boot requests refused outside of the machine's boot window, by reason",
            self.window_refusals.clone(),
        );
        boot.register(
            "missing_network_boots",
            "Machines that volboot switched on to boot from the network, and that sent no request in time",
            self.missing_network_boots.clone(),
        );
        boot.register("loop_delays", "Delays imposed by the loop detector", self.loop_delays.clone());

        boot.register_with_unit(
            "phase",
            "Duration of the phases of boots, by phase",
            Unit::Seconds,
            self.boot_phases.clone(),
        );
        boot.register_with_unit(
            "up",
            "Time until a machine reported up: since volboot switched it on, or since the first sign of the boot",
            Unit::Seconds,
            self.boot_up.clone(),
        );
        registry.register(
            "boots",
            "Boots of nodes that began within the last hour, day or week, by result",
            self.boots.clone(),
        );
    }

    /// Registers the metrics of etcd. Without etcd, all are 0.
    fn register_etcd(&mut self) {
        let etcd = self.registry.sub_registry_with_prefix("etcd");
        etcd.register("members", "Configured members of etcd; 0 without etcd", self.etcd_members.clone());
        etcd.register(
            "members_reachable",
            "Members of etcd that respond to this instance",
            self.etcd_members_reachable.clone(),
        );
        let help = "Time since the mirror was last known to show the present records";
        etcd.register_with_unit("mirror_age", help, Unit::Seconds, self.etcd_age.clone());
        etcd.register("session", "Whether this instance has a session in etcd", self.etcd_session.clone());
        let help = "Whether etcd refuses writes for lack of space (NOSPACE)";
        etcd.register("no_space", help, self.etcd_no_space.clone());
        etcd.register("revision", "Latest revision of etcd", self.etcd_revision.clone());
        let help = "Revision up to which etcd is compacted; 0 before the first compaction";
        etcd.register("compacted_revision", help, self.etcd_compacted_revision.clone());
    }

    /// Registers the metrics of BMCs.
    fn register_power(&mut self) {
        let power = self.registry.sub_registry_with_prefix("power");
        power.register("calls", "Operations on BMCs, by kind and result", self.power_calls.clone());
        let duration = self.power_call_duration.clone();
        power.register_with_unit("call", "Duration of operations on BMCs, by kind", Unit::Seconds, duration);
        let in_flight = self.power_calls_in_flight.clone();
        power.register("calls_in_flight", "Requests to BMCs that are under way", in_flight);
        let nodes = self.power_nodes.clone();
        power.register("nodes", "Nodes with a BMC by power state, as of the last round", nodes);
        let failing = self.power_failing.clone();
        power.register("nodes_failing", "Nodes with a failing BMC, as of the last round", failing);
    }

    /// Registers the metrics of the instances on one store.
    fn register_cluster(&mut self) {
        let cluster = self.registry.sub_registry_with_prefix("cluster");
        let instances = self.cluster_instances.clone();
        cluster.register("instances", "Live instances on the store, including this one", instances);
        cluster.register(
            "instances_unreachable",
            "Other instances whose events are missing because they do not answer",
            self.cluster_unreachable.clone(),
        );
        cluster.register(
            "instances_differing",
            "Other instances with another version, configuration or iPXE binary",
            self.cluster_differing.clone(),
        );
        cluster.register_with_unit(
            "lag",
            "Longest time since the last answer of another instance",
            Unit::Seconds,
            self.cluster_lag.clone(),
        );
        let joined = self.cluster_joined_events.clone();
        cluster.register("joined_events", "Events of other instances joined with those of this one", joined);
    }

    /// Registers the metrics of the listeners for firmware.
    fn register_listeners(&mut self) {
        let registry = &mut self.registry;
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

        let dhcp = registry.sub_registry_with_prefix("dhcp");
        let requests = self.dhcp_requests.clone();
        dhcp.register("requests", "DHCP requests of network-boot clients, by kind and answer", requests);
        let ports = self.dhcp_ports.clone();
        dhcp.register("port_served", "Whether the ProxyDHCP server serves its port", ports);
        let events_dropped = self.dhcp_events_dropped.clone();
        dhcp.register(
            "events_dropped",
            "DHCP requests missing from the history because the queue was full",
            events_dropped,
        );

        let http = registry.sub_registry_with_prefix("http");
        http.register("fetches", "HTTP requests of firmware for a file", self.http_fetches.clone());

        let rejections = self.http_rejections.clone();
        http.register("rejections", "Rejected requests to the boot listener, by reason", rejections);
    }
}
