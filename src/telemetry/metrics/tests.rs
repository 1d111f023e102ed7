//! The text of a scrape.

use super::*;
use crate::telemetry::{
    BootCount, ClusterReading, ConnectionReading, DhcpReading, EtcdReading, PortalReading, PowerReading,
};

fn reading() -> Reading {
    Reading {
        store: Some(Duration::from_micros(250)),
        store_writable: true,
        events_dropped: 7,
        dhcp: Some(DhcpReading { discovery: true, events_dropped: 3 }),
        machines: vec![("booted", 4)],
        boots: vec![BootCount { window: "1h", result: "up", count: 6 }],
        power: PowerReading { calls_in_flight: 2, on: 3, off: 4, unknown: 5, failing: 1 },
        portals: PortalReading { answering: 3, dead: 1, unknown: 2 },
        cluster: ClusterReading {
            instances: 3,
            unreachable: 1,
            differing: 2,
            lag: Duration::from_millis(1500),
        },
        etcd: Some(EtcdReading {
            members: 3,
            reachable: 2,
            age: Duration::from_millis(250),
            has_session: true,
            has_no_space: true,
            revision: 900,
            compacted: 800,
        }),
        connections: vec![ConnectionReading { listener: "http", open: 3, displaced: 2, refused: 1 }],
        ..Reading::default()
    }
}

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
    metrics.count_power_call("switch", "timeout", duration);
    metrics.observe_boot_phase("files", duration);
    metrics.observe_boot_up(true, duration);
    metrics.count_login("limited");
    metrics.count_history_commit();
    metrics.count_history_eviction("address");
    metrics.count_joined_events(4);
    let text = metrics.encode(&reading());
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
        "volboot_power_calls_total{kind=\"switch\",result=\"timeout\"} 1",
        "volboot_power_call_seconds_count{kind=\"switch\"} 1",
        "volboot_power_calls_in_flight 2",
        "volboot_power_nodes{state=\"on\"} 3",
        "volboot_power_nodes{state=\"unknown\"} 5",
        "volboot_power_nodes_failing 1",
        "volboot_boot_phase_seconds_count{phase=\"files\"} 1",
        "volboot_boot_up_seconds_count{start=\"power_on\"} 1",
        "volboot_boots{window=\"1h\",result=\"up\"} 6",
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
        "volboot_nodes_in_fallback 0",
        "volboot_preflight_portals{state=\"answering\"} 3",
        "volboot_preflight_portals{state=\"dead\"} 1",
        "volboot_preflight_portals{state=\"unknown\"} 2",
        "volboot_etcd_members 3",
        "volboot_etcd_members_reachable 2",
        "volboot_etcd_mirror_age_seconds 0.25",
        "volboot_etcd_session 1",
        "volboot_etcd_no_space 1",
        "volboot_etcd_revision 900",
        "volboot_etcd_compacted_revision 800",
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
