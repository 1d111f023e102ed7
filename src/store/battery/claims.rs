//! The battery's tests of sessions, claims and freshness.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use volboot::store::{Batch, Claim, Condition, Freshness, Instance, Store, WriteError};

use super::records::get_one;

/// The interval of repeated attempts; the battery's own time-out ends them.
const INTERVAL: Duration = Duration::from_millis(20);

async fn claim(store: &dyn Store, work: &str) -> Option<Claim> {
    store.cluster().claim(work, b"").await.expect("responds")
}

/// Repeats a claim until it is granted.
async fn wait_for_claim(store: &dyn Store, work: &str) -> Claim {
    loop {
        if let Some(claim) = claim(store, work).await {
            return claim;
        }
        sleep(INTERVAL).await;
    }
}

async fn instances(store: &dyn Store) -> Vec<Instance> {
    store.cluster().instances().await.expect("lists")
}

fn is_lost_claim(result: &Result<u64, WriteError>, expected: &Claim) -> bool {
    matches!(result, Err(WriteError::Conflict(Condition::Held(id))) if id == expected.id())
}

pub(super) async fn a_claim_excludes_others_until_its_release(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.cluster().claim("volume/1", b"waits 3 s").await.expect("responds").expect("is free");
    assert!(!first.is_lost());
    assert!(first.must_stop_by().is_none_or(|deadline| deadline > Instant::now()));
    assert!(claim(&*other, "volume/1").await.is_none());
    assert!(claim(&*one, "volume/1").await.is_none(), "a claim is not reentrant");
    let beside = claim(&*other, "volume/10").await.expect("other work is free");
    let holder = other.cluster().holder("volume/1").await.expect("responds").expect("is held");
    assert_eq!((&holder.id, holder.note.as_slice()), (first.id(), b"waits 3 s".as_slice()));
    assert!(other.cluster().annotate(first.id(), b"waits 5 s").await.expect("responds"));
    let holder = one.cluster().holder("volume/1").await.expect("responds").expect("is held");
    assert_eq!((&holder.id, holder.note.as_slice()), (first.id(), b"waits 5 s".as_slice()));
    assert!(holder.is_self);
    let id = first.id().clone();
    one.cluster().release(first).await.expect("responds");
    assert_eq!(other.cluster().holder("volume/1").await.expect("responds"), None);
    assert!(!one.cluster().annotate(&id, b"").await.expect("responds"));
    let second = claim(&*other, "volume/1").await.expect("is free again");
    assert_ne!(second.id(), &id);
    other.cluster().release(beside).await.expect("responds");
}

pub(super) async fn a_write_without_its_claim_is_refused(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = claim(&*one, "w").await.expect("is free");
    let under = |claim: &Claim, value: &str| Batch::default().require_held(claim.id()).put("a", value);
    one.write(under(&first, "1")).await.expect("the claim is held");
    one.cluster().annotate(first.id(), b"a note is no new claim").await.expect("responds");
    one.write(under(&first, "2")).await.expect("the claim is held");
    // A conflict gives no claim back.
    let conflict = Batch::default().require_absent("a").release(first.id());
    assert!(matches!(one.write(conflict).await, Err(WriteError::Conflict(Condition::Absent(_)))));
    one.write(under(&first, "3").release(first.id())).await.expect("the claim is held");
    assert!(is_lost_claim(&one.write(under(&first, "lost")).await, &first));
    let second = claim(&*other, "w").await.expect("the batch has given the claim back");
    assert!(is_lost_claim(&one.write(under(&first, "lost")).await, &first));
    assert!(is_lost_claim(&one.write(Batch::default().put("a", "lost").release(first.id())).await, &first));
    // The late release of a lost claim does not end its successor's.
    one.cluster().release(first).await.expect("responds");
    other.write(under(&second, "4")).await.expect("the claim is held");
    assert_eq!(get_one(&*one, "a").await.map(|record| record.value), Some(b"4".to_vec()));
}

pub(super) async fn a_dropped_claim_is_given_back(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    for _ in 0..3 {
        drop(claim(&*one, "w").await.expect("is free"));
        drop(wait_for_claim(&*other, "w").await);
        drop(wait_for_claim(&*one, "w").await);
        wait_for_claim(&*one, "w").await.into_id();
        let id = one.cluster().holder("w").await.expect("responds").expect("an identity is no drop").id;
        one.write(Batch::default().release(&id).put("a", "")).await.expect("the claim is held");
    }
}

pub(super) async fn a_closed_session_ends_its_claims(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let lost = claim(&*one, "w").await.expect("is free");
    one.close().await.expect("closes");
    lost.wait_for_loss().await;
    assert!(lost.is_lost());
    let successor = wait_for_claim(&*other, "w").await;
    assert_ne!(successor.id(), lost.id());
}

pub(super) async fn an_instance_is_listed_until_its_session_ends(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.cluster().announce("boot-1", b"{}".to_vec()).await.expect("announces");
    let before = instances(&*other).await;
    assert_eq!(before.len(), 1);
    assert_eq!((before[0].name.as_str(), before[0].record.as_slice()), ("boot-1", b"{}".as_slice()));
    one.cluster().announce("boot-1", br#"{"queue":3}"#.to_vec()).await.expect("announces");
    let own = instances(&*one).await;
    assert_eq!(own.len(), 1);
    assert!(own[0].is_self);
    assert_eq!((own[0].since, &own[0].session), (before[0].since, &before[0].session));
    assert_eq!(own[0].record, br#"{"queue":3}"#);
    let held = claim(&*one, "w").await.expect("is free");
    let holder = one.cluster().holder("w").await.expect("responds").expect("is held");
    assert_eq!(holder.session, own[0].session);
    drop(held);
    one.close().await.expect("closes");
    while !instances(&*other).await.is_empty() {
        sleep(INTERVAL).await;
    }
}

pub(super) async fn last_known_records_are_those_last_read(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.write(Batch::default().put("a", "1")).await.expect("writes");
    let record = get_one(&*other, "a").await.expect("exists");
    assert_eq!(other.freshness(), Freshness::Fresh);
    let known = Arc::clone(&other).last_known();
    assert_eq!(get_one(&*known, "a").await, Some(record.clone()));
    assert_eq!(known.list("", None, 9).await.expect("lists"), [record]);
}
