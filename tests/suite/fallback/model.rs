//! A model over random faults from a seed: several instances, machines of three kinds, and everything that may go wrong.
//!
//! The model knows the truth: systems that came up, lost reports, disturbed boots. It never looks at the count. Each boot
//! request is followed by these checks:
//!
//! * a fallback comes into force only after enough boots in a row that truly came to nothing, undisturbed, over enough time;
//! * a machine whose system comes up, and whose reports arrive or are lost where volboot can know it, never falls back;
//! * a database, which runs for hours, never falls back, even if all its reports are lost without a trace;
//! * no two nodes are on one volume.
//!
//! Times are those of the monotonic clock: the records hold no time that a decision reads, so a wall clock has no say.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::Instant;
use volboot::model::{BootStep, Fallback, FallbackState, Node, PowerState};
use volboot::neighbours::Presence;

use super::{Machine, POLICY, Site, boot_volume, fixed_fallback, settle};

const SEEDS: u64 = 24;
const STEPS: usize = 200;
const INSTANCES: usize = 3;
/// A client that is no machine.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 250));
/// A client that stands for any machine.
const ROUTER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1));

/// A generator of pseudo-random numbers (SplitMix64): a seed gives the same run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    fn between(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_secs(from + self.next() % (to - from))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The system comes up; its reports arrive, or are lost where volboot can know it.
    Web,
    /// The system comes up and runs for hours; its reports may be lost without a trace.
    Database,
    /// The system on the own volume panics or hangs, and a watchdog restarts the machine; that on the fallback comes up.
    Broken,
}

/// A machine, and the truth about it.
#[derive(Debug)]
struct Truth {
    machine: Machine,
    kind: Kind,
    next_boot: Instant,
    /// The volume that the machine runs from.
    runs_from: Option<String>,
    /// Boots of the own volume in a row that came to nothing, undisturbed, and since when.
    failed: usize,
    failed_since: Instant,
    /// The last boot was of the own volume, was hooked, and came to nothing so far.
    is_failing: bool,
    is_disturbed: bool,
}

struct World {
    site: Site,
    random: Random,
    machines: Vec<Truth>,
    is_storage_away: bool,
    flips: usize,
    log: Vec<String>,
}

impl World {
    async fn open(seed: u64) -> Self {
        let site = Site::open(INSTANCES).await;
        let mut machines = Vec::new();
        for (number, kind) in (1..).zip([Kind::Web, Kind::Database, Kind::Broken, Kind::Broken, Kind::Web]) {
            let machine = site.add_node(number, true).await;
            let now = Instant::now();
            machines.push(Truth {
                machine,
                kind,
                next_boot: now + Duration::from_secs(number.into()),
                runs_from: None,
                failed: 0,
                failed_since: now,
                is_failing: false,
                is_disturbed: false,
            });
        }
        Self { site, random: Random(seed), machines, is_storage_away: false, flips: 0, log: Vec::new() }
    }

    fn disturb_all(&mut self) {
        self.machines.iter_mut().for_each(|machine| machine.is_disturbed = true);
    }

    /// A fault or an operator's action between two boots.
    async fn interfere(&mut self) {
        let victim = self.random.below(self.machines.len());
        let instance = self.random.below(self.site.instances.len());
        let machine = self.machines[victim].machine;
        match self.random.below(16) {
            0 => {
                self.log.push(format!("kill -9 of instance {instance}"));
                self.site.kill(instance).await;
                self.site.start_instance().await;
                self.disturb_all();
            }
            1 => {
                self.log.push(format!("instance {instance} lost its session"));
                self.site.instances[instance].store.end_session();
                self.disturb_all();
            }
            2 => {
                self.log.push(format!("the store is away for instance {instance}"));
                self.site.instances[instance].store.set_outage(Some("no answer"));
            }
            3 | 4 => {
                self.log.push("the store is back".into());
                self.site.instances.iter().for_each(|instance| instance.store.set_outage(None));
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            5 => {
                self.log.push("the storage is away".into());
                self.is_storage_away = true;
            }
            6 => {
                self.log.push(format!("volboot resets machine {victim}"));
                let node = self.site.node(machine).await;
                self.site.operator.inventory.fallbacks().note_reset(&node).await.expect("writes");
                self.machines[victim].is_disturbed = true;
                self.machines[victim].next_boot = Instant::now();
            }
            7 => {
                self.log.push(format!("a report of machine {victim} is dropped by instance {instance}"));
                self.site.instances[instance].boot.note_dropped_report(machine.mac);
                self.machines[victim].is_disturbed = true;
            }
            8 => {
                let client = if self.random.one_in(2) { STRANGER } else { ROUTER };
                self.log.push(format!("connections of {client} are refused by instance {instance}"));
                self.site.refuse_connections(instance, client).await;
                if client == ROUTER {
                    self.disturb_all();
                }
            }
            9 => self.operate(victim).await,
            _ => {}
        }
        settle().await;
    }

    /// An operator sets, removes, promotes or retries a fallback.
    async fn operate(&mut self, victim: usize) {
        let operator = &self.site.operator;
        let machine = self.machines[victim].machine;
        let node = self.site.node(machine).await;
        let now = jiff::Timestamp::now();
        let action = self.random.below(4);
        let old = Fallback::of(&node);
        let result = match action {
            0 => operator.retry_own_volume(&node).await,
            1 => operator.promote_fallback(&node, now).await,
            2 => operator.clear_fallback(&node, now).await,
            _ => {
                // Any volume, other nodes' too.
                let number = 1 + self.random.below(self.machines.len());
                let kind = if self.random.one_in(2) { "spare" } else { "own" };
                let fallback = fixed_fallback(&format!("{kind}-{number}"));
                let uri = fallback.to_fields()["target"].as_str().expect("a path").to_owned();
                let values = volboot::operator::FallbackValues { targets: vec![&uri], ..Default::default() };
                operator.set_fallback(&node, &values, now).await
            }
        };
        self.log.push(format!("operator's action {action} on machine {victim}: {result:?}"));
        // Unless the operation was refused or changed nothing, the count ends.
        let new = Fallback::of(&self.site.node(machine).await);
        if result.is_ok() && (action == 0 || old != new) {
            self.machines[victim].is_disturbed = true;
        }
    }

    /// The next boot of a machine: a boot session at random instances.
    async fn boot(&mut self, index: usize) {
        let at = self.machines[index].next_boot;
        if at.saturating_duration_since(Instant::now()) > Duration::from_secs(600) {
            // An instance tries again every second: over weeks, that takes long even without a clock.
            self.site.instances.iter().for_each(|instance| instance.store.set_outage(None));
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        tokio::time::sleep_until(at).await;
        self.judge_last_boot(index);
        let machine = self.machines[index].machine;
        let was_in_force = self.site.state(machine).await.in_force.is_some();
        let journey = self.site.new_journey();
        self.machines[index].runs_from = None;
        let mut attempt = 1;
        for _ in 0..6 {
            let instance = self.random.below(self.site.instances.len());
            let decision = self.site.ask(instance, machine, &journey, attempt).await;
            let Some(volume) = boot_volume(&decision) else {
                tokio::time::sleep(Duration::from_secs(2)).await;
                continue;
            };
            self.check_flip(index, was_in_force).await;
            self.log.push(format!("machine {index} gets {volume} of instance {instance} at try {attempt}"));
            let reporter = self.random.below(self.site.instances.len());
            if self.is_storage_away {
                self.site.report(reporter, machine, &BootStep::Hook(0), Some("0x4c0a6035"));
                settle().await;
                attempt += 1;
                if self.random.one_in(3) {
                    self.log.push("the storage is back".into());
                    self.is_storage_away = false;
                }
                continue;
            }
            self.site.report(reporter, machine, &BootStep::Hooked, None);
            settle().await;
            let is_own = decision.fallback.is_none() && attempt == 1;
            self.run(index, volume, is_own).await;
            return;
        }
        // No boot: the firmware starts again.
        self.log.push(format!("machine {index} gives up"));
        let truth = &mut self.machines[index];
        truth.is_failing = false;
        truth.next_boot = Instant::now() + Duration::from_secs(30);
    }

    /// The machine runs from a volume.
    async fn run(&mut self, index: usize, volume: String, is_own: bool) {
        let hooked_at = Instant::now();
        let kind = self.machines[index].kind;
        // The system on a volume named own-… panics, also after a promotion.
        let comes_up = kind != Kind::Broken || !volume.starts_with("own");
        let dwell = match (kind, comes_up) {
            (Kind::Database, _) if self.random.one_in(2) => self.random.between(300, 61 * 60),
            (Kind::Database, _) => self.random.between(61 * 60, 40 * 86_400),
            (_, false) if self.random.one_in(2) => self.random.between(20, 200),
            (_, false) => self.random.between(300, 1500),
            (_, true) => self.random.between(30, 86_400),
        };
        self.check_volumes(index, &volume);
        let truth = &mut self.machines[index];
        truth.runs_from = Some(volume);
        truth.is_failing = is_own && !comes_up;
        truth.is_disturbed = !is_own;
        truth.next_boot = hooked_at + dwell;
        let presence = if comes_up { Presence::Answers } else { Presence::Silent };
        self.site.network.set(truth.machine, presence);
        if !comes_up {
            return;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        let machine = self.machines[index].machine;
        let instance = self.random.below(self.site.instances.len());
        match self.random.below(6) {
            // Most reports of this one are lost.
            0 | 2..=4 if kind == Kind::Database => {
                self.log.push(format!("the up report of database {index} is lost without a trace"));
            }
            1 => {
                self.log.push(format!("the up report of machine {index} is dropped"));
                self.site.instances[instance].boot.note_dropped_report(machine.mac);
            }
            _ => self.site.report(instance, machine, &BootStep::Up, None),
        }
        settle().await;
    }

    /// What the last boot truly was.
    fn judge_last_boot(&mut self, index: usize) {
        let truth = &mut self.machines[index];
        if truth.is_failing && !truth.is_disturbed {
            truth.failed += 1;
        } else {
            truth.failed = 0;
            truth.failed_since = Instant::now();
        }
        truth.is_disturbed = false;
    }

    async fn check_flip(&mut self, index: usize, was_in_force: bool) {
        let state: FallbackState = self.site.state(self.machines[index].machine).await;
        if was_in_force || state.in_force.is_none() {
            return;
        }
        self.flips += 1;
        let truth = &self.machines[index];
        let after = POLICY.after as usize;
        let took = truth.failed_since.elapsed();
        assert_eq!(truth.kind, Kind::Broken, "a healthy machine fell back:\n{}", self.log.join("\n"));
        assert!(
            truth.failed >= after && took >= POLICY.min_uptime * POLICY.after,
            "a flip without cause, after {} failed boots within {took:?}:\n{}",
            truth.failed,
            self.log.join("\n")
        );
    }

    fn check_volumes(&self, index: usize, volume: &str) {
        let others = self.machines.iter().enumerate().filter(|(other, _)| *other != index);
        let user = others.into_iter().find(|(_, other)| other.runs_from.as_deref() == Some(volume));
        assert!(user.is_none(), "machine {index} and {user:?} are on {volume}:\n{}", self.log.join("\n"));
    }
}

#[tokio::test(start_paused = true)]
async fn no_fallback_without_cause_and_no_two_nodes_on_a_volume_whatever_happens() {
    let mut flips = 0;
    for seed in 0..SEEDS {
        let mut world = World::open(seed).await;
        world.log.push(format!("seed {seed}"));
        for _ in 0..STEPS {
            let next = (0..world.machines.len()).min_by_key(|index| world.machines[*index].next_boot);
            if world.random.one_in(3) {
                world.interfere().await;
            }
            world.boot(next.expect("machines")).await;
        }
        flips += world.flips;
    }
    // Otherwise the checks have checked nothing.
    assert!(flips > SEEDS as usize, "only {flips} fallbacks came into force over {SEEDS} seeds");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_off_gives_its_fallback_away() {
    let mut site = Site::open(1).await;
    let machine = site.add_node(1, true).await;
    for _ in 0..3 {
        site.boot_and_hook(0, machine).await;
        super::advance(300).await;
    }
    assert_eq!(site.boot_and_hook(0, machine).await, "spare-1");
    let node = site.node(machine).await;
    let now = jiff::Timestamp::now();
    assert!(site.operator.clear_fallback(&node, now).await.is_err());
    let off = |old: &Node, _: Option<&Node>| {
        Ok::<_, ()>(old.clone().with_power_state(PowerState::Off, jiff::Timestamp::now()))
    };
    let node = site.operator.inventory.update(node.uuid, off).await.expect("writes");
    site.operator.clear_fallback(&node, now).await.expect("removes");
    assert_eq!(Fallback::of(&site.node(machine).await), Ok(None));
}
