//! The take-over of a killed instance: the time from `kill -9` to the boot script of a machine that had asked it.
//!
//! A machine behaves like iPXE: its request fails, it pauses as its script says, and asks the next instance. The slowest
//! machine has to meet the limit. All times are those of the product: the session, the pauses, and the 120 s in which a
//! lost request may still take effect.

use std::fmt;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::appliance::{Appliance, ApplianceOptions, Enrolled, LONG, Site};
use crate::cinder_proxy::{Call, Moment, Stop};
use crate::etcd::Options;
use crate::fake_cinder::{Fault, Operation};
use crate::storm_machine::{self, BootResult};
use crate::{SESSION, run, wait_until};

/// The limit where no resolution was under way.
const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// The limit after a lost create request for a multi-attachable volume, which may take effect for 120 s.
const LOST_CREATE_LIMIT: Duration = Duration::from_secs(125);
/// Machines of a measurement without a resolution.
const MACHINES: usize = 20;
/// Concurrent resolutions, where a queue is measured.
const RESOLUTIONS: u32 = 4;
/// The delay of a request that outlives its sender.
const LATE: Moment = Moment::Late(Duration::from_secs(3));

/// Where a victim is killed during a first boot.
const FIRST_BOOT: [(Call, Moment); 5] = [
    (Call::List, Moment::After),
    (Call::Reserve, Moment::After),
    (Call::Export, LATE),
    (Call::Export, Moment::After),
    (Call::Complete, Moment::After),
];
/// Where a victim is killed during a later boot.
const LATER_BOOT: [(Call, Moment); 4] = [
    (Call::Export, Moment::Before),
    (Call::Export, LATE),
    (Call::Export, Moment::After),
    (Call::Complete, Moment::After),
];

/// A measured case.
struct Takeover {
    name: &'static str,
    limit: Duration,
    /// From the kill to the boot script, of each machine.
    times: Vec<Duration>,
}

/// What a case of claimed volumes is about.
#[derive(Clone, Copy)]
struct Claimed {
    name: &'static str,
    limit: Duration,
    points: &'static [(Call, Moment)],
    /// Whether the machines have booted before.
    is_later: bool,
    multiattach: bool,
    /// Whether etcd's leader dies too.
    kills_leader: bool,
}

/// The limit of a claimed volume.
fn claimed_limit() -> Duration {
    SESSION + Duration::from_secs(5)
}

/// Measures all cases. Fails if one misses its limit.
pub(crate) fn measure() {
    println!(
        "{:<46} {:>8} {:>9} {:>9} {:>9}",
        "take-over of a killed instance", "machines", "median", "last", "limit"
    );
    run(Options::default(), |etcd| async move {
        let mut site = Site::open(etcd).await;
        let survivor = site.start("boot-1").await;
        let base = Claimed {
            name: "first boot under way",
            limit: claimed_limit(),
            points: &FIRST_BOOT,
            is_later: false,
            multiattach: false,
            kills_leader: false,
        };
        let mut cases = vec![measure_idle(&mut site, &survivor).await];
        cases.extend(measure_queue(&mut site).await);
        for claimed in [
            base,
            Claimed { name: "later boot under way", points: &LATER_BOOT, is_later: true, ..base },
            Claimed {
                name: "later boot under way, etcd's leader dies too",
                limit: claimed_limit() + SESSION,
                points: &LATER_BOOT,
                is_later: true,
                kills_leader: true,
                ..base
            },
            Claimed {
                name: "first boot, multi-attach, create request lost",
                limit: LOST_CREATE_LIMIT,
                points: &[(Call::Reserve, Moment::Before)],
                multiattach: true,
                ..base
            },
        ] {
            cases.push(measure_claimed(&mut site, &survivor, claimed).await);
        }
        let missed: Vec<_> = cases.iter().filter(|case| case.is_missed()).map(|case| case.name).collect();
        assert!(missed.is_empty(), "limit missed: {}", missed.join("; "));
    });
}

/// The machines have volumes, and ask the victim for the next time after its death.
async fn measure_idle(site: &mut Site, survivor: &Appliance) -> Takeover {
    let mut victim = site.start("idle").await;
    let mut machines = Vec::new();
    for _ in 0..MACHINES {
        let mut enrolled = site.enroll(survivor).await;
        enrolled.machine.boot(&[&victim], LONG).await;
        machines.push(enrolled);
    }
    victim.kill();
    let killed_at = Instant::now();
    let boots = machines.iter().map(|machine| start_boot(machine, &[&victim, survivor])).collect();
    let times = finish_boots(boots).await.iter().map(|boot| boot.booted_at - killed_at).collect();
    Takeover::new("no resolution under way", IDLE_LIMIT, times)
}

/// As many calls of the victim hang as resolutions may run. More machines wait in its queue.
async fn measure_queue(site: &mut Site) -> [Takeover; 2] {
    let options = || ApplianceOptions { resolutions: RESOLUTIONS, ..ApplianceOptions::default() };
    let survivor = site.start_with("queue-1", options()).await;
    let mut victim = site.start_with("queue-2", options()).await;
    let mut machines = Vec::new();
    for _ in 0..RESOLUTIONS as usize + MACHINES {
        machines.push(site.enroll(&survivor).await);
    }
    let (running, queued) = machines.split_at(RESOLUTIONS as usize);
    site.cinder.take_calls();
    site.cinder.inject_fault(Operation::Export, Fault::Hang, running.len());
    let at = [&victim, &survivor];
    let running: Vec<_> = running.iter().map(|machine| start_boot(machine, &at)).collect();
    let mut hanging = 0;
    wait_until(LONG, "the calls hang", async || {
        hanging += site.cinder.take_calls().iter().filter(|call| **call == Operation::Export).count();
        hanging == running.len()
    })
    .await;
    let queued: Vec<_> = queued.iter().map(|machine| start_boot(machine, &at)).collect();
    wait_until(LONG, "the machines are queued", async || {
        let appliance = victim.get("/v1/appliance").await;
        appliance["instances"][0]["queue_length"] == MACHINES
    })
    .await;
    victim.kill();
    let killed_at = Instant::now();
    let since_kill = |boots: Vec<BootResult>| boots.iter().map(|boot| boot.booted_at - killed_at).collect();
    let queued = since_kill(finish_boots(queued).await);
    let running = since_kill(finish_boots(running).await);
    [
        Takeover::new("queued behind hanging resolutions", IDLE_LIMIT, queued),
        Takeover::new("the hanging resolutions", claimed_limit(), running),
    ]
}

/// A victim for each machine is killed at a call of the machine's resolution.
async fn measure_claimed(site: &mut Site, survivor: &Appliance, case: Claimed) -> Takeover {
    let mut machines = Vec::new();
    for number in 0..case.points.len() {
        let mut machine = site.enroll_with(survivor, case.multiattach).await;
        if case.is_later {
            machine.machine.boot(&[survivor], LONG).await;
        }
        machines.push((machine, site.start(&format!("victim-{number}")).await));
    }
    let leader = site.etcd.leader();
    let kills = machines.iter_mut().zip(case.points).map(async |((machine, victim), (call, moment))| {
        let (signal, process) = (Signal::SIGKILL, victim.pid());
        victim.cinder.stop_at(Stop { call: *call, moment: *moment, signal, process });
        let boot = start_boot(machine, &[victim, survivor]);
        let stopped = timeout(LONG, victim.cinder.wait_for_stop()).await;
        let killed_at = Instant::now();
        stopped.unwrap_or_else(|_| panic!("{call:?} does not come"));
        victim.kill();
        (boot, killed_at)
    });
    let (boots, kills): (Vec<_>, Vec<_>) = join_all(kills).await.into_iter().unzip();
    if case.kills_leader {
        site.etcd.kill(leader);
    }
    let results = finish_boots(boots).await;
    if case.kills_leader {
        site.etcd.restart(leader);
    }
    for ((machine, _), boot) in machines.iter().zip(&results) {
        assert_eq!(site.cinder.attachments(&machine.volume).len(), 1, "{}: {boot:?}", case.name);
        let has_reason = boot.reasons.iter().any(|reason| reason.contains("may still take effect"));
        assert!(has_reason || !case.multiattach, "{}: no reason on the console: {boot:?}", case.name);
    }
    let times = results.iter().zip(kills).map(|(boot, killed_at)| boot.booted_at - killed_at).collect();
    Takeover::new(case.name, case.limit, times)
}

/// Starts a machine that asks these instances in turn.
fn start_boot(machine: &Enrolled, at: &[&Appliance]) -> JoinHandle<BootResult> {
    let addresses: Vec<_> = at.iter().map(|appliance| appliance.http()).collect();
    let (number, mac) = (machine.number, machine.mac.replace(':', "-"));
    tokio::spawn(async move { storm_machine::boot(&addresses, number, &mac).await })
}

async fn finish_boots(boots: Vec<JoinHandle<BootResult>>) -> Vec<BootResult> {
    let boots = join_all(boots).await;
    boots.into_iter().map(|boot| boot.expect("the machine boots")).collect()
}

impl Takeover {
    /// Prints a case.
    fn new(name: &'static str, limit: Duration, mut times: Vec<Duration>) -> Self {
        times.sort();
        let takeover = Self { name, limit, times };
        println!("{takeover}");
        takeover
    }

    fn last(&self) -> Duration {
        *self.times.last().expect("machines")
    }

    fn is_missed(&self) -> bool {
        self.last() > self.limit
    }
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let median = self.times[self.times.len() / 2].as_secs_f64();
        let (last, limit) = (self.last().as_secs_f64(), self.limit.as_secs());
        write!(f, "{:<46} {:>8} {median:>7.1} s {last:>7.1} s {limit:>7} s", self.name, self.times.len())
    }
}
