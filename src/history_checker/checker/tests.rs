//! Histories written by hand: each rule is broken by one of them, and kept by its neighbour.

use std::time::Duration;

use super::super::history::Effect;
use super::*;

const A: Uuid = Uuid::from_u128(1);
const B: Uuid = Uuid::from_u128(2);
const ROOT: &str = "root";

/// A history of one volume. Each step takes a second.
#[derive(Debug, Default)]
struct Story {
    events: Vec<RunEvent>,
    calls: u32,
    requests: u32,
}

impl Story {
    /// Both nodes have the volume.
    fn begin() -> Self {
        Self::default().then(granting(A)).then(granting(B))
    }

    fn then(mut self, event: RunEvent) -> Self {
        self.events.push(event);
        self
    }

    /// A call that takes effect and is answered.
    fn call(self, effect: Effect) -> Self {
        let call = self.calls + 1;
        let story = self.lost_call(effect);
        story.then(RunEvent::CallAnswered { call, status: 200 })
    }

    /// A call that takes effect, and whose response is lost.
    fn lost_call(mut self, effect: Effect) -> Self {
        self.calls += 1;
        let call = self.calls;
        self.then(RunEvent::CallSent { call, instance: 0, text: String::new() })
            .then(RunEvent::CallEffect { call, effect })
    }

    /// The node has an attachment, exported once.
    fn attach(self, attachment: u32, export: u32, node: Uuid) -> Self {
        self.call(Effect::Reserved { volume: ROOT.into(), attachment }).call(Effect::Exported {
            attachment,
            export,
            node,
        })
    }

    fn export(self, attachment: u32, export: u32, node: Uuid) -> Self {
        self.call(Effect::Exported { attachment, export, node })
    }

    fn delete(self, attachment: u32) -> Self {
        self.call(Effect::Deleted { attachment })
    }

    fn ask(mut self, node: Uuid) -> Self {
        self.requests += 1;
        let request = self.requests;
        self.then(RunEvent::Asked { node, request, instance: 0 })
    }

    /// The answer to the last request.
    fn get(self, node: Uuid, attachment: u32, export: u32, source: ScriptSource) -> Self {
        let volumes = vec![ScriptVolume { volume: ROOT.into(), attachment, export, source }];
        let request = self.requests;
        self.then(RunEvent::Script { node, request, volumes })
    }

    fn boot(self, node: Uuid, attachment: u32, export: u32) -> Self {
        self.ask(node).get(node, attachment, export, ScriptSource::Export)
    }

    fn check_with(&self, shared: &[&str]) -> Result<(), String> {
        let shared = shared.iter().map(|volume| (*volume).to_owned()).collect();
        let entry = |(second, event): (u64, &RunEvent)| HistoryEntry {
            at: Duration::from_secs(second),
            event: event.clone(),
        };
        let history: Vec<_> = (0..).zip(&self.events).map(entry).collect();
        check(&history, &shared).map_err(|violation| {
            assert_eq!(violation.position, history.len() - 1, "the last event breaks the rule");
            violation.fault
        })
    }

    fn expect_kept(&self) {
        assert_eq!(self.check_with(&[]), Ok(()));
    }

    fn expect_broken(&self, fault: &str) {
        let found = self.check_with(&[]).expect_err("a broken rule");
        assert!(found.contains(fault), "{found}");
    }
}

fn granting(node: Uuid) -> RunEvent {
    RunEvent::Granting { node, volume: ROOT.into(), usage: Usage::Target }
}

fn revoked(node: Uuid) -> RunEvent {
    RunEvent::Revoked { node, volume: ROOT.into(), usage: Usage::Target }
}

#[test]
fn a_volume_moves_from_node_to_node() {
    let story = Story::begin().attach(1, 1, A).boot(A, 1, 1).export(1, 2, A).boot(A, 1, 2).delete(1);
    story.attach(2, 3, B).boot(B, 2, 3).expect_kept();
}

#[test]
fn two_nodes_on_one_volume() {
    let story = || Story::begin().attach(1, 1, A).boot(A, 1, 1).attach(2, 2, B);
    story().boot(B, 2, 2).expect_broken("still is at node 00000000-0000-0000-0000-000000000001");
    story().delete(1).boot(B, 2, 2).expect_kept();
    assert_eq!(story().boot(B, 2, 2).check_with(&[ROOT]), Ok(()), "the volume is multi-attachable");
}

#[test]
fn two_nodes_on_one_attachment() {
    let story = Story::begin().attach(1, 1, A);
    let of_another = story.boot(B, 1, 1);
    of_another.expect_broken("boots through export 1, which is for node");
    assert!(of_another.check_with(&[ROOT]).is_err(), "that is no way to share a volume");
    let story = Story::begin().attach(1, 1, A).boot(A, 1, 1);
    let call = RunEvent::CallSent { call: 9, instance: 0, text: String::new() };
    let effect = Effect::Exported { attachment: 1, export: 2, node: B };
    let stolen = story.then(call).then(RunEvent::CallEffect { call: 9, effect });
    stolen.expect_broken("attachment 1 of node");
}

#[test]
fn a_connection_from_before_the_last_detachment() {
    let story = || Story::begin().attach(1, 1, A);
    for source in [ScriptSource::Export, ScriptSource::LastKnown, ScriptSource::Confirmed] {
        story().delete(1).ask(A).get(A, 1, 1, source).expect_broken("was deleted before the machine asked");
        // The script may be on its way when the volume is detached.
        story().ask(A).delete(1).get(A, 1, 1, source).expect_kept();
    }
}

#[test]
fn a_connection_from_before_the_last_known_export() {
    let story = || Story::begin().attach(1, 1, A);
    let fault = "export 2 of attachment 1 was known";
    story().export(1, 2, A).boot(A, 1, 1).expect_broken(fault);
    story().export(1, 2, A).ask(A).get(A, 1, 1, ScriptSource::Confirmed).expect_broken(fault);
    story().export(1, 2, A).ask(A).get(A, 1, 1, ScriptSource::LastKnown).expect_kept();
    story().ask(A).export(1, 2, A).get(A, 1, 1, ScriptSource::Export).expect_kept();
    let unknown = Effect::Exported { attachment: 1, export: 2, node: A };
    story().lost_call(unknown).boot(A, 1, 1).expect_kept();
}

#[test]
fn an_overtaken_export_is_not_a_later_one() {
    let late = Effect::Exported { attachment: 1, export: 2, node: A };
    let sent = RunEvent::CallSent { call: 9, instance: 0, text: String::new() };
    let story = Story::begin().then(sent).attach(1, 1, A);
    let story = story.then(RunEvent::CallEffect { call: 9, effect: late });
    story.then(RunEvent::CallAnswered { call: 9, status: 200 }).boot(A, 1, 1).expect_kept();
}

#[test]
fn a_volume_that_the_node_has_lost() {
    let story = || Story::begin().attach(1, 1, A);
    story().then(revoked(A)).boot(A, 1, 1).expect_broken("had lost volume root");
    story().ask(A).then(revoked(A)).get(A, 1, 1, ScriptSource::Export).expect_kept();
    story().then(revoked(A)).ask(A).then(granting(A)).get(A, 1, 1, ScriptSource::Export).expect_kept();
    // Without the store, an instance knows no better.
    story().then(revoked(A)).ask(A).get(A, 1, 1, ScriptSource::Confirmed).expect_kept();
    let once = RunEvent::Granting { node: A, volume: ROOT.into(), usage: Usage::Once };
    story().then(once).then(revoked(A)).boot(A, 1, 1).expect_kept();
}

#[test]
fn a_boot_in_maintenance() {
    let story = || Story::begin().attach(1, 1, A);
    let (set, ending) = (RunEvent::MaintenanceSet { node: A }, RunEvent::MaintenanceEnding { node: A });
    story().then(set.clone()).boot(A, 1, 1).expect_broken("was in maintenance");
    story().ask(A).then(set.clone()).get(A, 1, 1, ScriptSource::Export).expect_kept();
    story().then(set.clone()).ask(A).then(ending).get(A, 1, 1, ScriptSource::Export).expect_kept();
    story().then(set).ask(A).get(A, 1, 1, ScriptSource::Confirmed).expect_kept();
}

#[test]
fn a_script_from_nowhere() {
    Story::begin().boot(A, 1, 1).expect_broken("unknown attachment");
    let reserved = Effect::Reserved { volume: ROOT.into(), attachment: 1 };
    Story::begin().call(reserved).boot(A, 1, 1).expect_broken("unknown export");
    let other = Story::begin().attach(1, 1, A).attach(2, 2, A);
    other.boot(A, 1, 2).expect_broken("an export of another one");
}
