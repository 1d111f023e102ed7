//! Tests of the verdict for each way a boot session can end, and of the descriptions of a timeline.

use super::*;

#[test]
fn verdicts_before_the_boot_script() {
    for (sequence, now, state, text) in [
        (session_start()[..2].to_vec(), 30, BootState::Booting, "read undionly.kpxe over TFTP"),
        (
            session_start()[..2].to_vec(),
            90,
            BootState::Stopped,
            "stopped after reading undionly.kpxe over TFTP: no script requested",
        ),
        (
            (0..6)
                .map(|n| {
                    (
                        n * 10,
                        false,
                        transfer(
                            "undionly.kpxe",
                            if n % 2 == 0 { TransferOutcome::Probe } else { TransferOutcome::Complete },
                        ),
                    )
                })
                .collect(),
            51,
            BootState::Looping,
            "boot loop: read undionly.kpxe over TFTP 3 times in a row, no script requested",
        ),
        (
            vec![
                (0, true, transfer("undionly.kpxe", TransferOutcome::Complete)),
                (1, true, transfer("undionly.kpxe", TransferOutcome::Complete)),
                (2, true, boot_request(1, BootOutcome::Boot, None)),
                (10, true, transfer("undionly.kpxe", TransferOutcome::Complete)),
            ],
            20,
            BootState::Booting,
            "read undionly.kpxe over TFTP",
        ),
        (
            vec![(0, true, http_fetch("snponly.efi", Some(9)))],
            10,
            BootState::Booting,
            "read snponly.efi over HTTP",
        ),
        (
            session_start()[..3].to_vec(),
            70,
            BootState::Stopped,
            "stopped after reading /boot.ipxe: no boot request",
        ),
        (
            vec![(
                0,
                true,
                boot_request(1, BootOutcome::Unknown, Some("no node has a port with the address X")),
            )],
            500,
            BootState::Unknown,
            "unknown machine: no node has a port with the address X",
        ),
        (
            vec![(
                0,
                true,
                boot_request(1, BootOutcome::Refused, Some("node web-1: maintenance is set: disks")),
            )],
            500,
            BootState::Stopped,
            "refused: node web-1: maintenance is set: disks",
        ),
        (
            vec![(
                0,
                true,
                boot_request(1, BootOutcome::LocalDisk, Some("node web-1: storage interface is noop")),
            )],
            500,
            BootState::LocalDisk,
            "sent to the local disk: node web-1: storage interface is noop",
        ),
        (
            vec![(0, true, boot_request(1, BootOutcome::Wait, Some("Cinder does not answer")))],
            20,
            BootState::Waiting,
            "waiting: Cinder does not answer",
        ),
        (
            vec![(0, true, boot_request(1, BootOutcome::Wait, Some("Cinder does not answer")))],
            900,
            BootState::Stopped,
            "stopped while waiting: no further boot request; the wait's reason: Cinder does not answer",
        ),
    ] {
        assert_eq!(verdict(sequence, now), (state, text.to_owned()));
    }
}

#[test]
fn verdict_on_an_ipxe_that_lacks_a_feature_and_comes_back_without_it() {
    let load = |seconds| (seconds, false, transfer("without-http/undionly.kpxe", TransferOutcome::Complete));
    let refused = |seconds| {
        let reason = "this iPXE has no HTTP, and came back without HTTP after it read undionly.kpxe";
        (seconds, false, refused_transfer("without-http/undionly.kpxe", reason))
    };
    let read = "read without-http/undionly.kpxe over TFTP";
    let stopped = "stopped: this iPXE has no HTTP, and came back without HTTP after it read undionly.kpxe";
    for (loads, now, state, text) in [
        (vec![load(0)], 5, BootState::Booting, read),
        // The server sent the binary again: it is the second machine behind the address, or minutes have passed.
        (vec![load(0), load(9)], 12, BootState::Booting, read),
        (vec![load(0), refused(9)], 12, BootState::Stopped, stopped),
        // The machine starts again, and its iPXE gets the binary again.
        (vec![load(0), refused(9), load(60)], 65, BootState::Booting, read),
    ] {
        assert_eq!(verdict(loads, now), (state, text.to_owned()));
    }
}

#[test]
fn verdicts_on_failed_loads() {
    for (sequence, now, text) in [
        (
            vec![(0, true, http_fetch("snp.efi", None))],
            10,
            "failed: reading snp.efi over HTTP: file not found",
        ),
        (
            vec![(0, false, transfer("pxelinux.0", TransferOutcome::NotFound))],
            0,
            "failed: reading pxelinux.0 over TFTP: file not found",
        ),
        (
            vec![(0, false, transfer("ipxe.efi", TransferOutcome::TimedOut))],
            0,
            "failed: reading ipxe.efi over TFTP: time-out: the client stopped acknowledging",
        ),
    ] {
        assert_eq!(verdict(sequence, now), (BootState::Stopped, text.to_owned()));
    }
}

#[test]
fn verdicts_after_the_boot_script() {
    let hook = |rc| session_start_then(vec![(7, true, boot_report(BootStep::Hook(0), Some(rc), 1))]);
    for (sequence, now, state, text) in [
        (session_start(), 20, BootState::Booting, "boot script sent; no report from the machine yet"),
        (
            session_start(),
            300,
            BootState::Stopped,
            "stopped after the boot script was sent: no report for 180 s, neither success nor error",
        ),
        (
            hook("0x410d6139"),
            8,
            BootState::Retrying,
            "failed: connecting to volume root: target rejected CHAP credentials [0x410d6139]; try 1 of 3, \
             retrying",
        ),
        (
            hook("0x34852039"),
            8,
            BootState::Retrying,
            "failed: connecting to volume root: table for the operating system (iBFT) has no room for all names and \
             secrets [0x34852039]; try 1 of 3, retrying",
        ),
        (
            session_start_then(vec![
                (7, true, boot_report(BootStep::Hook(1), Some("0x2c0d6039"), 1)),
                (9, true, boot_request(2, BootOutcome::Boot, None)),
            ]),
            12,
            BootState::Retrying,
            "failed: connecting to volume data: target does not know the volume's IQN (yet) [0x2c0d6039]; try 1 of 3, \
             now at try 2",
        ),
        (
            session_start_then(vec![
                (9, true, boot_request(3, BootOutcome::Boot, None)),
                (10, true, boot_report(BootStep::Hooked, None, 3)),
                (11, true, boot_report(BootStep::Boot, Some("0x7f22208e"), 3)),
            ]),
            500,
            BootState::Stopped,
            "failed: starting from the volume: volume has no boot loader for UEFI firmware [0x7f22208e]; try 3 of 3, \
             giving up",
        ),
        (
            hook("0x12345678"),
            6,
            BootState::Retrying,
            "failed: connecting to volume root: iPXE error 0x12345678; try 1 of 3, retrying",
        ),
        (
            vec![(0, true, boot_report(BootStep::Hook(0), None, 1))],
            6,
            BootState::Stopped,
            "failed: connecting to a volume: no error number; try 1, giving up",
        ),
        (
            session_start_then(vec![(12, true, boot_report(BootStep::Hooked, None, 1))]),
            100,
            BootState::Hooked,
            "volume hooked after 12 s",
        ),
        (
            session_start_then(vec![(12, true, boot_report(BootStep::Hooked, None, 1))]),
            193,
            BootState::HandedOver,
            "handed over: volume hooked after 12 s, no error in 3 min since",
        ),
        (
            session_start_then(vec![
                (12, true, boot_report(BootStep::Hooked, None, 1)),
                (31, true, boot_report(BootStep::Up, None, 1)),
            ]),
            9000,
            BootState::Booted,
            "booted after 31 s",
        ),
    ] {
        assert_eq!(verdict(sequence, now), (state, text.to_owned()));
    }
}

#[test]
fn a_boot_loop_is_named_once() {
    let load = |seconds| (seconds, true, transfer("undionly.kpxe", TransferOutcome::Complete));
    for (sequence, now, text) in [
        (loop_delay(0, 7), 20, "waiting: boot loop: 7 boot sessions in a row"),
        (
            loop_delay(0, 7),
            900,
            "stopped while waiting: no further boot request; the wait's reason: boot loop: 7 boot sessions in a row",
        ),
        (
            loop_delay(0, 7).into_iter().chain([load(70), load(80), load(90)]).collect(),
            91,
            "boot loop: read undionly.kpxe over TFTP 3 times in a row, no script requested",
        ),
        (
            loop_delay(0, 7).into_iter().chain([load(70)]).collect(),
            71,
            "boot loop: 8 boot sessions without a hooked volume; now: read undionly.kpxe over TFTP",
        ),
        // Once the delay has passed, the machine waits for another reason.
        (
            {
                let wait = boot_request(1, BootOutcome::Wait, Some("Cinder is unavailable"));
                loop_delay(0, 7).into_iter().chain([(65, true, wait)]).collect()
            },
            66,
            "boot loop: 7 boot sessions without a hooked volume; now: waiting: Cinder is unavailable",
        ),
        // A machine whose records were evicted during its session.
        (
            loop_delay(0, 7)[..1].to_vec(),
            1,
            "boot loop: 7 boot sessions without a hooked volume; now: read /boot.ipxe; boot request not received yet",
        ),
    ] {
        assert_eq!(verdict(sequence, now), (BootState::Looping, text.to_owned()));
    }
}

#[test]
fn a_sent_script_never_counts_as_a_boot() {
    for now in [5, 60, 600, 60_000] {
        let (state, text) = verdict(session_start(), now);
        assert!(matches!(state, BootState::Booting | BootState::Stopped), "{text}");
    }
}

#[test]
fn a_timeline_is_described_line_by_line() {
    let sequence = session_start_then(vec![
        (7, true, boot_report(BootStep::Hook(1), Some("0xf0a6039"), 1)),
        (9, true, boot_request(2, BootOutcome::Boot, None)),
        (12, true, boot_report(BootStep::Hooked, None, 2)),
    ]);
    let texts: Vec<_> = describe(events(sequence)).into_iter().map(|entry| entry.text).collect();
    assert_eq!(
        texts,
        [
            "queried the size of undionly.kpxe over TFTP: 100 bytes",
            "read undionly.kpxe over TFTP: 100 bytes in 5 ms (1 × 1468 bytes, window 4)",
            "read /boot.ipxe",
            "boot request (BIOS), try 1; volume root from Cinder in 40 ms; boot script sent",
            "try 1: connecting to volume data failed: storage refused the TCP connection at the portal's port \
             [0xf0a6039]",
            "boot request (BIOS), try 2; volume root from Cinder in 40 ms; boot script sent",
            "volumes hooked: login succeeded, disks found",
        ]
    );
}

#[test]
fn warnings_of_a_boot_script_are_in_the_timeline() {
    let mut request = boot_request(2, BootOutcome::Boot, None);
    if let EventKind::BootRequest(request) = &mut request {
        request.warnings = vec!["the iBFT cannot hold volume root".into(), "a path is omitted".into()];
    }
    let texts: Vec<_> =
        describe(events(vec![(9, true, request)])).into_iter().map(|entry| entry.text).collect();
    assert_eq!(
        texts,
        ["boot request (BIOS), try 2; volume root from Cinder in 40 ms; boot script sent with a warning: \
          the iBFT cannot hold volume root; a path is omitted"]
    );
}

#[test]
fn words_of_another_version_are_kept_and_shown() {
    let other = || "frobnicated_twice".to_owned();
    let outcome = BootOutcome::Other(other());
    let sequence = vec![
        (0, true, transfer("ipxe.efi", TransferOutcome::Other(other()))),
        (1, true, boot_request(1, outcome, Some("no reason"))),
        (2, true, boot_report(BootStep::Other(other()), Some("0x12345678"), 1)),
    ];
    let texts: Vec<_> = describe(events(sequence.clone())).into_iter().map(|entry| entry.text).collect();
    assert_eq!(
        texts,
        [
            "failed to read ipxe.efi over TFTP: frobnicated twice after 5 ms (1 × 1468 bytes, window 4)",
            "boot request (BIOS), try 1; frobnicated twice: no reason",
            "try 1: frobnicated_twice failed: iPXE error 0x12345678",
        ]
    );
    for (length, text) in [
        (1, "failed: reading ipxe.efi over TFTP: frobnicated twice"),
        (2, "frobnicated twice: no reason"),
        (3, "failed: frobnicated_twice: iPXE error 0x12345678; try 1 of 3, retrying"),
    ] {
        assert_eq!(verdict(sequence[..length].to_vec(), 3).1, text);
    }
}

#[test]
fn the_server_that_attached_the_volumes_is_named() {
    let server = Uuid::from_u128(9);
    let attached_by_server = |mut event: EventKind| {
        if let EventKind::BootRequest(request) = &mut event {
            request.resolutions[0].server = Some(server);
        }
        event
    };
    let request = attached_by_server(boot_request(1, BootOutcome::Boot, None));
    let named = format!("attached by server {server} (this node's instance)");
    let sent = vec![(0, true, EventKind::SessionStarted), (1, true, request)];
    let text = format!("boot script sent; no report from the machine yet; {named}");
    assert_eq!(verdict(sent.clone(), 2), (BootState::Booting, text));
    let hooked = [sent.clone(), vec![(5, true, boot_report(BootStep::Hooked, None, 1))]].concat();
    assert_eq!(verdict(hooked, 6), (BootState::Hooked, format!("volume hooked after 5 s; {named}")));
    let texts: Vec<_> = describe(events(sent.clone())).into_iter().map(|entry| entry.text).collect();
    assert!(texts.iter().any(|text| text.contains(&format!("from Cinder in 40 ms, {named}"))), "{texts:?}");

    // A later boot session without the server does not name it.
    let next =
        vec![(600, true, EventKind::SessionStarted), (601, true, boot_request(1, BootOutcome::Boot, None))];
    let (_, text) = verdict([sent, next].concat(), 602);
    assert_eq!(text, "boot script sent; no report from the machine yet");
}

#[test]
fn a_machine_that_does_not_boot_from_the_network_is_stopped_until_its_first_request() {
    let missing = (600, true, EventKind::NoNetworkBoot { node: Uuid::from_u128(7), seconds: 600 });
    let text = "stopped: the firmware did not boot from the network: the boot override was ignored; no request in 600 s since the \
                machine was switched on";
    let stopped = (BootState::Stopped, text.to_owned());
    assert_eq!(verdict(vec![missing.clone()], 601), stopped, "a machine that was never seen");
    let up = session_start_then(vec![(9, true, boot_report(BootStep::Up, None, 1))]);
    let after_boot = [up, vec![missing.clone()]].concat();
    assert_eq!(verdict(after_boot.clone(), 601), stopped, "a machine that has booted before");
    let late = (700, true, transfer("undionly.kpxe", TransferOutcome::Complete));
    let (state, text) = verdict([after_boot, vec![late]].concat(), 701);
    assert_eq!((state, text.as_str()), (BootState::Booting, "read undionly.kpxe over TFTP"));
}
