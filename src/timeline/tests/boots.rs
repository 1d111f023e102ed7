//! Tests of the boots of nodes: phases, statistics, and the time since the power-on.

use std::collections::BTreeMap;

use super::*;

/// A complete boot session that starts at this second.
fn boot(start: i64, login: i64, up: i64) -> Sequence {
    vec![
        (start, false, transfer("undionly.kpxe", TransferOutcome::Complete)),
        (start + 4, false, EventKind::SessionStarted),
        (start + 5, true, boot_request(1, BootOutcome::Boot, None)),
        (start + login, true, boot_report(BootStep::Hooked, None, 1)),
        (start + up, true, boot_report(BootStep::Up, None, 1)),
    ]
}

fn index_of(sequence: Sequence) -> MachineIndex {
    let mut index = MachineIndex::new(Bounds::default());
    for event in events(sequence) {
        index.insert(&event);
    }
    index
}

fn count(summary: &BootSummary) -> BTreeMap<&'static str, u64> {
    let counts = summary.results.iter().filter(|(_, count)| **count > 0);
    counts.map(|(result, count)| (result.as_str(), *count)).collect()
}

fn phases(milestones: &BootMilestones) -> Vec<(&'static str, u32)> {
    milestones.phases().iter().map(|span| (span.phase.as_str(), span.duration_ms())).collect()
}

#[test]
fn a_boot_has_a_phase_for_each_milestone() {
    let index = index_of(boot(0, 8, 30));
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    let expected = [("files", 5), ("script", 4000), ("volumes", 1000), ("login", 3000), ("system", 22_000)];
    assert_eq!(phases(&record.progress.milestones), expected);
    assert_eq!(record.progress.milestones.up_after_ms(), Some((30_005, false)));
}

#[test]
fn a_second_try_extends_the_volumes_phase() {
    let mut sequence = boot(0, 60, 90);
    sequence.truncate(3);
    sequence.push((9, true, boot_report(BootStep::Hook(0), Some("410d613b"), 1)));
    sequence.push((20, true, boot_request(2, BootOutcome::Boot, None)));
    sequence.push((22, true, boot_report(BootStep::Hooked, None, 2)));
    // A machine that reports `up` again, after a restart of its operating system, does not count anew.
    sequence.push((40, true, boot_report(BootStep::Up, None, 2)));
    sequence.push((4000, true, boot_report(BootStep::Up, None, 2)));
    let index = index_of(sequence);
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    let expected = [("files", 5), ("script", 4000), ("volumes", 16_000), ("login", 2000), ("system", 18_000)];
    assert_eq!(phases(&record.progress.milestones), expected);
}

#[test]
fn the_events_of_a_machine_are_traced_boot_by_boot() {
    let sequence = [boot(0, 8, 30), boot(1000, 10, 40), boot(2000, 20, 60), boot(3000, 7, 31)].concat();
    let traces = trace_boots(&events(sequence));
    assert_eq!(traces.iter().map(|boot| boot.started_at).collect::<Vec<_>>(), [0, 1000, 2000, 3000].map(at));
    let (_, earlier) = traces.split_last().expect("a boot");
    let median = MedianPhases::new(earlier).expect("a median");
    assert_eq!(median.boots, 3);
    let durations: Vec<_> = median.phases.iter().map(PhaseSpan::duration_ms).collect();
    assert_eq!(durations, [5, 4000, 1000, 5000, 30_000]);
    assert_eq!(median.phases.last().map(|span| span.end_ms), Some(40_005));
    assert_eq!(MedianPhases::new(&[]), None);
}

#[test]
fn a_boot_of_a_node_counts_once_with_its_result() {
    let failed: Sequence = boot(1000, 8, 30).into_iter().take(3).collect();
    let index = index_of([boot(0, 8, 30), failed, boot(2000, 8, 30)].concat());
    let windows = index.summarize_boots(at(2100)).windows;
    assert_eq!(count(&windows.hour), BTreeMap::from([("up", 2), ("failed", 1)]));
    assert_eq!((windows.hour.up.boots, windows.hour.up.from_power_on), (2, 0));
    // A stranger counts in no statistics.
    let stranger: Sequence = (0..5)
        .flat_map(|n| {
            let start = n * 1000;
            [
                (start, true, EventKind::SessionStarted),
                (start + 1, true, boot_request(1, BootOutcome::Unknown, Some("no node"))),
            ]
        })
        .collect();
    assert_eq!(count(&index_of(stranger).summarize_boots(at(5000)).windows.week), BTreeMap::new());
}

#[test]
fn the_storm_shows_how_far_each_machine_is() {
    let now = |sequence, seconds| index_of(sequence).summarize_boots(at(seconds)).now;
    // The first boot names the node.
    let again = |rest: Sequence| [boot(0, 8, 30), rest].concat();
    let start: Sequence = boot(2000, 8, 30);
    let upto = |count: usize| again(start.iter().take(count).cloned().collect());
    assert_eq!(now(upto(3), 2006), BootStorm { booting: 1, ..BootStorm::default() });
    assert_eq!(now(upto(5), 2040), BootStorm { up: 1, ..BootStorm::default() });
    assert_eq!(now(upto(5), 4000), BootStorm::default());
    let mut request = boot_request(1, BootOutcome::Wait, Some("Cinder is away"));
    if let EventKind::BootRequest(request) = &mut request {
        request.node = Some(Uuid::from_u128(7));
    }
    let wait = again(vec![(2000, true, request)]);
    assert_eq!(now(wait, 2001), BootStorm { waiting: 1, ..BootStorm::default() });
    let resolving = again(vec![(2000, true, EventKind::SessionStarted)]);
    assert_eq!(now(resolving, 2001), BootStorm { resolving: 1, ..BootStorm::default() });
}

#[test]
fn the_power_on_by_volboot_starts_the_clock() {
    let mut index = MachineIndex::new(Bounds::default());
    index.power_on_times.note(Uuid::from_u128(7), at(-50));
    for event in events(boot(0, 8, 30)) {
        index.insert(&event);
    }
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!(record.progress.milestones.up_after_ms(), Some((80_000, true)));
    // The next boot is the machine's own.
    for event in events(boot(1000, 8, 30)) {
        index.insert(&event);
    }
    let (_, record) = index.get(MachineId::Mac(CARD)).expect("a record");
    assert_eq!(record.progress.milestones.up_after_ms(), Some((30_005, false)));
    let up = index.summarize_boots(at(1100)).windows.hour.up;
    assert_eq!((up.boots, up.from_power_on), (2, 1));
}

#[test]
fn statistics_survive_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let now = Timestamp::now().as_second() - at(0).as_second();
    let sequence = [boot(now - 900, 8, 30), boot(now - 600, 8, 30), boot(now - 300, 8, 30)].concat();
    let before = {
        let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
        timeline.record_all(events(sequence));
        timeline.close_blocking();
        timeline.summarize_boots().windows
    };
    assert_eq!(count(&before.hour), BTreeMap::from([("up", 3)]));
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    assert_eq!(timeline.summarize_boots().windows, before);
}

#[test]
fn the_phases_of_boots_are_observed_once() {
    let metrics = Metrics::new();
    let timeline = Timeline::open_blocking(None, metrics.clone());
    timeline.record_all(events([boot(0, 8, 30), boot(1000, 8, 30)].concat()));
    timeline.close_blocking();
    let text = metrics.encode(&crate::telemetry::Reading::default());
    for line in [
        "volboot_boot_phase_seconds_count{phase=\"login\"} 2",
        "volboot_boot_phase_seconds_sum{phase=\"login\"} 6.0",
        "volboot_boot_phase_seconds_count{phase=\"system\"} 2",
        "volboot_boot_phase_seconds_count{phase=\"files\"} 2",
        "volboot_boot_up_seconds_count{start=\"first_sign\"} 2",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
}
