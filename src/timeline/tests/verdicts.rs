//! What a story comes to: each end has its sentence, and a timeline reads as what happened.

use super::*;

#[test]
fn every_end_without_a_script_to_boot_by_has_its_sentence() {
    for (story, now, state, sentence) in [
        (begun()[..2].to_vec(), 30, State::Booting, "has read undionly.kpxe over TFTP"),
        (
            begun()[..2].to_vec(),
            90,
            State::Stopped,
            "stopped after it read undionly.kpxe over TFTP, because it never asked for a script",
        ),
        (
            (0..6)
                .map(|n| {
                    (n * 10, false, transfer("undionly.kpxe", if n % 2 == 0 { "probe" } else { "complete" }))
                })
                .collect(),
            51,
            State::Looping,
            "has read undionly.kpxe over TFTP 3 times in a row, and never asked for a script",
        ),
        (
            vec![
                (0, true, transfer("undionly.kpxe", "complete")),
                (1, true, transfer("undionly.kpxe", "complete")),
                (2, true, answered(1, "boot", None)),
                (10, true, transfer("undionly.kpxe", "complete")),
            ],
            20,
            State::Booting,
            "has read undionly.kpxe over TFTP",
        ),
        (
            vec![(0, true, fetched("snponly.efi", Some(9)))],
            10,
            State::Booting,
            "has read snponly.efi over HTTP",
        ),
        (
            vec![(0, true, fetched("snp.efi", None))],
            10,
            State::Stopped,
            "stopped at reading snp.efi over HTTP, because there is no such file",
        ),
        (
            vec![(0, false, transfer("pxelinux.0", "not found"))],
            0,
            State::Stopped,
            "stopped at reading pxelinux.0 over TFTP, because there is no such file",
        ),
        (
            vec![(0, false, transfer("ipxe.efi", "timed out"))],
            0,
            State::Stopped,
            "stopped at reading ipxe.efi over TFTP, because it was not heard of any more",
        ),
        (
            begun()[..3].to_vec(),
            70,
            State::Stopped,
            "stopped after it read /boot.ipxe, because it never asked for its own script",
        ),
        (begun(), 20, State::Booting, "has its script; nothing is heard of its volumes yet"),
        (
            begun(),
            300,
            State::Stopped,
            "stopped after its script was sent, because nothing was heard for 180 s: neither a volume nor an error",
        ),
        (
            vec![(0, true, answered(1, "unknown", Some("no node has a port with the address X")))],
            500,
            State::Unknown,
            "stopped at its question, because no node has a port with the address X",
        ),
        (
            vec![(0, true, answered(1, "refuse", Some("node web-1 is in maintenance: disks")))],
            500,
            State::Stopped,
            "stopped at its question, because node web-1 is in maintenance: disks",
        ),
        (
            vec![(0, true, answered(1, "local disk", Some("node web-1: storage interface is noop")))],
            500,
            State::LocalDisk,
            "was sent to its local disk, because node web-1: storage interface is noop",
        ),
        (
            vec![(0, true, answered(1, "wait", Some("Cinder does not answer")))],
            20,
            State::Waiting,
            "waits, because Cinder does not answer",
        ),
        (
            vec![(0, true, answered(1, "wait", Some("Cinder does not answer")))],
            900,
            State::Stopped,
            "stopped while it waited, because it never asked again; it waited because Cinder does not answer",
        ),
    ] {
        assert_eq!(verdict(story, now), (state, sentence.to_owned()));
    }
}

#[test]
fn every_end_of_a_script_to_boot_by_has_its_sentence() {
    let hook = |rc| then(vec![(7, true, reported("hook-0", Some(rc), 1))]);
    for (story, now, state, sentence) in [
        (
            hook("0x410d6139"),
            8,
            State::Retrying,
            "stopped at connecting to volume root, because the target refused the name and password (CHAP) \
             [0x410d6139] (try 1 of 3, and it tries again)",
        ),
        (
            then(vec![
                (7, true, reported("hook-1", Some("0x2c0d6039"), 1)),
                (9, true, answered(2, "boot", None)),
            ]),
            12,
            State::Retrying,
            "stopped at connecting to volume data, because the target does not know the volume's name (IQN), or not \
             yet [0x2c0d6039] (try 1); now at try 2",
        ),
        (
            then(vec![
                (9, true, answered(3, "boot", None)),
                (10, true, reported("hooked", None, 3)),
                (11, true, reported("boot", Some("0x7f22208e"), 3)),
            ]),
            500,
            State::Stopped,
            "stopped at starting from its volume, because there is no boot loader on the volume that UEFI firmware can \
             start [0x7f22208e] (try 3, and it gave up)",
        ),
        (
            then(vec![(6, true, reported("hook-0", Some("0x12345678"), 1))]),
            6,
            State::Retrying,
            "stopped at connecting to volume root, with iPXE's error 0x12345678 (try 1 of 3, and it tries again)",
        ),
        (
            then(vec![(12, true, reported("hooked", None, 1))]),
            100,
            State::Hooked,
            "hooked its volume, 12 s after it began",
        ),
        (
            then(vec![(12, true, reported("hooked", None, 1))]),
            193,
            State::HandedOver,
            "handed over: hooked its volume, 12 s after it began, and no complaint in 3 min",
        ),
        (
            then(vec![(12, true, reported("hooked", None, 1)), (31, true, reported("up", None, 1))]),
            9000,
            State::Booted,
            "booted, 31 s after it began",
        ),
    ] {
        assert_eq!(verdict(story, now), (state, sentence.to_owned()));
    }
}

#[test]
fn a_script_that_was_sent_is_never_a_boot() {
    for now in [5, 60, 600, 60_000] {
        let (state, text) = verdict(begun(), now);
        assert!(matches!(state, State::Booting | State::Stopped), "{text}");
    }
}

#[test]
fn a_timeline_reads_as_a_story() {
    let story = then(vec![
        (7, true, reported("hook-1", Some("0xf0a6039"), 1)),
        (9, true, answered(2, "boot", None)),
        (12, true, reported("hooked", None, 2)),
    ]);
    let told: Vec<_> = words(events(story)).into_iter().map(|entry| entry.text).collect();
    assert_eq!(
        told,
        [
            "asked over TFTP how long undionly.kpxe is: 100 bytes",
            "read undionly.kpxe over TFTP: 100 bytes in 5 ms (1 × 1468 bytes, window 4)",
            "read /boot.ipxe",
            "asked for its script (BIOS), try 1; volume root from Cinder, in 40 ms; it was sent",
            "try 1: connecting to volume data failed, because the storage refused the connection at the portal's port \
             [0xf0a6039]",
            "asked for its script (BIOS), try 2; volume root from Cinder, in 40 ms; it was sent",
            "hooked its volumes: it has logged in and found its disks",
        ]
    );
}
