//! The gauges of [`Series`], set from a [`Reading`] for every scrape.

use super::labels::{BootLabels, FileLabel, ListenerLabel, PortLabel, StateLabel};
use super::reading::{
    BootCount, ClusterReading, ConnectionReading, DhcpReading, EtcdReading, PortalReading, PowerReading,
    Reading,
};
use super::series::Series;

impl Series {
    /// Sets all gauges.
    pub(super) fn set_gauges(&self, reading: &Reading) {
        self.store_up.set(i64::from(reading.store.is_some()));
        self.store_writable.set(i64::from(reading.store_writable));
        self.store_read_duration.set(reading.store.unwrap_or_default().as_secs_f64());
        let files = [("store", reading.store_bytes), ("history", Some(reading.history_bytes))];
        for (file, bytes) in files {
            let Some(bytes) = bytes else { continue };
            self.file_bytes.get_or_create(&FileLabel { file }).set(gauge_value(bytes));
        }
        self.history_events_queued.set(gauge_value(reading.events_queued as u64));
        self.history_events_dropped.set(gauge_value(reading.events_dropped));
        self.tftp_events_dropped.set(gauge_value(reading.tftp_events_dropped));
        self.tftp_requests_dropped.set(gauge_value(reading.tftp_requests_dropped));
        for (state, count) in &reading.machines {
            self.machines.get_or_create(&StateLabel { state }).set(gauge_value(*count as u64));
        }
        for BootCount { window, result, count } in &reading.boots {
            self.boots.get_or_create(&BootLabels { window, result }).set(gauge_value(*count));
        }
        self.nodes_in_fallback.set(gauge_value(reading.nodes_in_fallback as u64));
        self.event_subscribers.set(gauge_value(reading.event_subscribers as u64));
        self.set_dhcp(reading.dhcp);
        self.set_power(reading.power);
        self.set_portals(reading.portals);
        self.set_cluster(reading.cluster);
        self.set_etcd(reading.etcd);
        self.set_connections(&reading.connections);
    }

    fn set_dhcp(&self, dhcp: Option<DhcpReading>) {
        let Some(DhcpReading { discovery, events_dropped }) = dhcp else { return };
        for (port, is_served) in [("67", discovery), ("4011", true)] {
            self.dhcp_ports.get_or_create(&PortLabel { port }).set(i64::from(is_served));
        }
        self.dhcp_events_dropped.set(gauge_value(events_dropped));
    }

    fn set_power(&self, power: PowerReading) {
        let PowerReading { calls_in_flight, on, off, unknown, failing } = power;
        self.power_calls_in_flight.set(gauge_value(calls_in_flight as u64));
        for (state, count) in [("on", on), ("off", off), ("unknown", unknown)] {
            self.power_nodes.get_or_create(&StateLabel { state }).set(gauge_value(count as u64));
        }
        self.power_failing.set(gauge_value(failing as u64));
    }

    fn set_portals(&self, portals: PortalReading) {
        let PortalReading { answering, dead, unknown } = portals;
        for (state, count) in [("answering", answering), ("dead", dead), ("unknown", unknown)] {
            self.preflight_portals.get_or_create(&StateLabel { state }).set(gauge_value(count as u64));
        }
    }

    fn set_cluster(&self, cluster: ClusterReading) {
        let ClusterReading { instances, unreachable, differing, lag } = cluster;
        self.cluster_instances.set(gauge_value(instances as u64));
        self.cluster_unreachable.set(gauge_value(unreachable as u64));
        self.cluster_differing.set(gauge_value(differing as u64));
        self.cluster_lag.set(lag.as_secs_f64());
    }

    fn set_etcd(&self, etcd: Option<EtcdReading>) {
        let Some(etcd) = etcd else { return };
        self.etcd_members.set(gauge_value(etcd.members as u64));
        self.etcd_members_reachable.set(gauge_value(etcd.reachable as u64));
        self.etcd_age.set(etcd.age.as_secs_f64());
        self.etcd_session.set(i64::from(etcd.has_session));
        self.etcd_no_space.set(i64::from(etcd.has_no_space));
        self.etcd_revision.set(gauge_value(etcd.revision));
        self.etcd_compacted_revision.set(gauge_value(etcd.compacted));
    }

    fn set_connections(&self, connections: &[ConnectionReading]) {
        for ConnectionReading { listener, open, displaced, refused } in connections {
            let label = ListenerLabel { listener };
            self.connections.get_or_create(&label).set(gauge_value(*open));
            self.connections_displaced.get_or_create(&label).set(gauge_value(*displaced));
            self.connections_refused.get_or_create(&label).set(gauge_value(*refused));
        }
    }
}

fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
