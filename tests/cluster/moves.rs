//! 14: the address moves to another instance at each step of a boot. 15: the events of an instance are cut off, and
//! come back. 10: the clock of an instance is wrong.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::appliance::{Appliance, ApplianceOptions, LONG, Site};
use crate::etcd::Options;
use crate::machine::Script;
use crate::proxy::Link;
use crate::{run, wait_until};

/// An iPXE binary, which volboot serves and does not run.
const BINARY: &str = "snponly.efi";
/// The library of Debian's package `faketime`; the dynamic linker sets the directory of the architecture.
const FAKETIME: &str = "/usr/$LIB/faketime/libfaketime.so.1";

/// A TFTP read, as a firmware performs it.
struct Transfer {
    socket: UdpSocket,
    peer: SocketAddr,
    /// The size that the server announces.
    size: usize,
}

impl Transfer {
    /// Requests a file with its size.
    async fn begin(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("binds");
        let request = format!("\0\u{1}{BINARY}\0octet\0tsize\x000\0blksize\x001024\0");
        socket.send_to(request.as_bytes(), server).await.expect("sends");
        let mut packet = [0; 2000];
        let (length, peer) = receive(&socket, &mut packet).await;
        assert_eq!(packet[..2], [0, 6], "an OACK: {:?}", &packet[..length]);
        let text = String::from_utf8_lossy(&packet[2..length]).into_owned();
        let mut options = text.split('\0').skip_while(|option| *option != "tsize");
        let size = options.nth(1).and_then(|size| size.parse().ok()).expect("a size");
        Self { socket, peer, size }
    }

    /// Ends the transfer like a firmware that wanted to know the size only.
    async fn abort(self) {
        self.socket.send_to(b"\0\x05\0\x08User aborted\0", self.peer).await.expect("sends");
    }

    /// Reads at most `blocks` blocks; returns the bytes.
    async fn read(&self, blocks: u16) -> Vec<u8> {
        let mut content = Vec::new();
        self.socket.send_to(&[0, 4, 0, 0], self.peer).await.expect("sends");
        for block in 1..=blocks {
            let mut packet = [0; 2000];
            let (length, _) = receive(&self.socket, &mut packet).await;
            let [high, low] = block.to_be_bytes();
            assert_eq!(packet[..4], [0, 3, high, low]);
            content.extend_from_slice(&packet[4..length]);
            self.socket.send_to(&[0, 4, high, low], self.peer).await.expect("sends");
            if length < 4 + 1024 {
                break;
            }
        }
        content
    }
}

async fn receive(socket: &UdpSocket, packet: &mut [u8]) -> (usize, SocketAddr) {
    timeout(LONG, socket.recv_from(packet)).await.expect("a response in time").expect("a response")
}

fn provide_binary(site: &Site) -> Vec<u8> {
    let mut content = b"MZ\x001.21.1+ (g4bd64)\0".to_vec();
    content.resize(70_000, 7);
    std::fs::write(site.etcd.directory("images").join(BINARY), &content).expect("writes");
    content
}

/// 14: at each step, the instance that was asked last is killed, and the next one is asked.
#[test]
fn the_address_moves_at_each_step_of_a_boot() {
    run(Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let content = provide_binary(&site);
        let (mut a, mut b) = (site.start("boot-1").await, site.start("boot-2").await);
        let mut enrolled = site.enroll(&a).await;
        let mut asked = &mut a;
        let mut next = &mut b;
        let move_on = |asked: &mut Appliance| {
            asked.kill();
            asked.restart();
        };
        // Between the size probe and the transfer, and in the middle of the transfer.
        let probe = Transfer::begin(asked.tftp()).await;
        assert_eq!(probe.size, content.len());
        probe.abort().await;
        move_on(asked);
        let transfer = Transfer::begin(next.tftp()).await;
        assert_eq!(transfer.size, content.len());
        transfer.read(5).await;
        move_on(next);
        assert!(Transfer::begin(asked.tftp()).await.read(u16::MAX).await == content);
        // Between the first script and the boot request; while the machine waits; between the script and the report.
        enrolled.machine.begin(asked.http()).await.expect("the first script");
        move_on(asked);
        site.cinder.inject_fault(
            crate::fake_cinder::Operation::Export,
            crate::fake_cinder::Fault::LateResponse(Duration::from_secs(30)),
            1,
        );
        let first = enrolled.machine.ask(next.http()).await;
        assert!(matches!(first, Ok(Script::Wait(_))), "{first:?}");
        move_on(next);
        std::mem::swap(&mut asked, &mut next);
        enrolled.machine.boot(&[next], LONG).await;
        move_on(next);
        enrolled.machine.report(asked.http(), "hooked").await;
        for instance in [&*asked, &*next] {
            wait_until(LONG, "the verdict is known", async || {
                let machine = instance.get(&format!("/v1/machines/{}", enrolled.mac)).await;
                machine["verdict"]["state"] == "hooked"
            })
            .await;
        }
        site.expect_consistent(&enrolled.volume, 1, Duration::from_secs(150), "after the moves").await;
    });
}

/// 15: the others cannot read the events of an instance for a while; then they have each event once.
#[test]
fn events_that_were_cut_off_are_joined_once() {
    run(Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let (a, b) = (site.start("boot-1").await, site.start("boot-2").await);
        let mut enrolled = site.enroll(&a).await;
        enrolled.machine.boot(&[&b], LONG).await;
        let joined = async |count: usize| {
            wait_until(LONG, "the events are joined", async || {
                let steps = a.timeline(&enrolled.mac).await;
                steps.iter().filter(|(instance, _)| instance == "boot-2").count() >= count
            })
            .await;
        };
        joined(1).await;
        for (cut, back) in
            [(Link::Closed, Link::Up(Duration::ZERO)), (Link::Silent, Link::Up(Duration::ZERO))]
        {
            b.peers.set_link(cut);
            let missing = async || {
                let missing = a.get("/v1/appliance").await["missing_events"].clone();
                missing
                    .as_array()
                    .is_some_and(|missing| missing.iter().any(|one| one["instance"] == "boot-2"))
            };
            wait_until(LONG, "the missing part is told", missing).await;
            let shown = a.command(&["show", "web-1"]);
            assert!(shown.contains("The events of boot-2 since"), "{shown}");
            enrolled.machine.report(b.http(), "hooked").await;
            b.peers.set_link(back);
            wait_until(LONG, "nothing is missing", async || !missing().await).await;
            // Both have the same story: each event once.
            wait_until(LONG, "the stories are equal", async || {
                a.timeline(&enrolled.mac).await == b.timeline(&enrolled.mac).await
            })
            .await;
        }
    });
}

/// 10: the wall clock of an instance is ten minutes ahead or behind. Nothing but displayed times changes.
#[test]
fn a_wrong_clock_changes_displayed_times_only() {
    run(Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let with_clock = |offset: &str| {
            let variables = vec![
                ("LD_PRELOAD", FAKETIME.to_owned()),
                ("FAKETIME", offset.to_owned()),
                // The monotonic clock is the kernel's own.
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ];
            ApplianceOptions { variables, ..ApplianceOptions::default() }
        };
        let a = site.start("boot-1").await;
        let b = site.start_with("boot-2", with_clock("+600")).await;
        let c = site.start_with("boot-3", with_clock("-600")).await;
        let offsets = async || {
            let instances = a.get("/v1/appliance").await["instances"].clone();
            let offset = |name: &str| {
                let mut instances = instances.as_array().expect("a list").iter();
                instances.find(|one| one["name"] == name).and_then(|one| one["clock_offset_ms"].as_i64())
            };
            (offset("boot-2").unwrap_or_default() / 60_000, offset("boot-3").unwrap_or_default() / 60_000)
        };
        wait_until(LONG, "the offsets are known", async || matches!(offsets().await, (9..=10, -10..=-9)))
            .await;
        // Each instance attaches, exports again, and detaches what another one attached.
        let instances = [&a, &b, &c];
        for number in 0..3 {
            let (one, other) = (instances[number], instances[(number + 1) % 3]);
            let mut enrolled = site.enroll(one).await;
            enrolled.machine.begin(one.http()).await.expect("the first script");
            enrolled.machine.boot(&[one], LONG).await;
            enrolled.machine.report(other.http(), "hooked").await;
            wait_until(LONG, "the story is in order", async || {
                let steps: Vec<_> =
                    a.timeline(&enrolled.mac).await.into_iter().map(|(name, _)| name).collect();
                steps.first().is_some_and(|name| *name == one.name)
                    && steps.last().is_some_and(|name| *name == other.name)
            })
            .await;
            enrolled.machine.switch_off();
            enrolled.machine.boot(&[other], LONG).await;
            site.expect_consistent(&enrolled.volume, 1, LONG, "with wrong clocks").await;
            let path = format!("/v1/nodes/{}", enrolled.node);
            let (status, body) = instances[(number + 2) % 3].call("DELETE", &path, &Value::Null).await;
            assert_eq!(status, 204, "{body}");
            site.expect_consistent(&enrolled.volume, 0, LONG, "after the deletion").await;
        }
    });
}
