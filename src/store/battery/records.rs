//! The battery's tests of records, batches, the change feed and snapshots.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;
use volboot::model::{Allocation, Node, PowerState, ProvisionState, StorageInterface};
use volboot::store::{Batch, Change, ChangeSet, Condition, Inventory, Record, Store, WriteError};

pub(super) async fn get_one(store: &dyn Store, key: &str) -> Option<Record> {
    store.get(&[key.to_owned()]).await.expect("reads").pop().expect("one result per key")
}

async fn list_keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    store.list(prefix, after, limit).await.expect("lists").into_iter().map(|record| record.key).collect()
}

pub(super) async fn reads_records_as_written(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    assert_eq!(get_one(&*one, "a").await, None);
    let first = one.write(Batch::default().put("a", "1").put("b", "")).await.expect("writes");
    let second = one.write(Batch::default().put("a", "2")).await.expect("writes");
    assert!(second > first);
    let records = other.get(&["b".into(), "a".into(), "c".into()]).await.expect("reads");
    let record =
        |key: &str, revision, value: &str| Some(Record { key: key.into(), revision, value: value.into() });
    assert_eq!(records, [record("b", first, ""), record("a", second, "2"), None]);
    one.write(Batch::default().delete("a").delete("never existed")).await.expect("writes");
    assert_eq!(get_one(&*other, "a").await, None);
}

pub(super) async fn lists_in_key_order_and_pages_without_gaps(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let batch =
        ["n/2", "n/1", "m/9", "n/3", "o/1", "n"].iter().fold(Batch::default(), |b, key| b.put(*key, *key));
    one.write(batch).await.expect("writes");
    assert_eq!(list_keys(&*other, "n/", None, 10).await, ["n/1", "n/2", "n/3"]);
    assert_eq!(list_keys(&*other, "n/", None, 2).await, ["n/1", "n/2"]);
    assert_eq!(list_keys(&*other, "n/", Some("n/2"), 2).await, ["n/3"]);
    assert_eq!(list_keys(&*other, "n/", Some("n/22"), 2).await, ["n/3"]);
    assert_eq!(list_keys(&*other, "n/", Some("a"), 1).await, ["n/1"]);
    assert_eq!(list_keys(&*other, "n/", Some("z"), 1).await, Vec::<String>::new());
    assert_eq!(list_keys(&*other, "", None, 9).await.len(), 6);
}

pub(super) async fn applies_a_batch_atomically(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("a", "1")).await.expect("writes");
    for (batch, expected) in [
        (Batch::default().require_absent("a"), Condition::Absent("a".into())),
        (Batch::default().require_unchanged("a", first + 1), Condition::Unchanged("a".into(), first + 1)),
        (
            Batch::default().require_unchanged("a", first).require_unchanged("b", first),
            Condition::Unchanged("b".into(), first),
        ),
    ] {
        let result = one.write(batch.put("c", "1").delete("a")).await;
        assert!(matches!(result, Err(WriteError::Conflict(condition)) if condition == expected));
        assert_eq!(list_keys(&*other, "", None, 9).await, ["a"]);
    }
    let valid = Batch::default().require_unchanged("a", first).require_absent("c").put("c", "1").delete("a");
    one.write(valid).await.expect("writes");
    assert_eq!(list_keys(&*other, "", None, 9).await, ["c"]);
    // A batch applies deletions before puts.
    one.write(Batch::default().delete("c").put("c", "2")).await.expect("writes");
    assert_eq!(get_one(&*other, "c").await.map(|record| record.value), Some(b"2".to_vec()));
}

pub(super) async fn reports_a_conflict_to_the_slower_of_two_writers(
    one: Arc<dyn Store>,
    other: Arc<dyn Store>,
) {
    let first = one.write(Batch::default().put("a", "1")).await.expect("writes");
    let change = |value: &str| Batch::default().require_unchanged("a", first).put("a", value);
    let (left, right) = tokio::join!(one.write(change("left")), other.write(change("right")));
    assert_eq!(u8::from(left.is_ok()) + u8::from(right.is_ok()), 1);
    let expected = if left.is_ok() { "left" } else { "right" };
    assert_eq!(get_one(&*one, "a").await.map(|record| record.value), Some(expected.into()));
}

pub(super) async fn a_condition_covers_a_prefix(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("p/1", "1").put("q/1", "1")).await.expect("writes");
    let batch = |value: &str| Batch::default().require_untouched("p/", first).put("p/2", value);
    // The records beside the prefix do not count; neither does a prefix without records.
    one.write(Batch::default().put("q/1", "2").put("p", "2")).await.expect("writes");
    let empty = Batch::default().require_untouched("none/", 0).put("q/2", "");
    one.write(empty).await.expect("writes");
    let second = other.write(batch("1")).await.expect("writes");
    let conflict = one.write(batch("2")).await;
    let expected = Condition::Untouched("p/".into(), first);
    assert!(matches!(conflict, Err(WriteError::Conflict(condition)) if condition == expected));
    one.write(Batch::default().require_untouched("p/", second).delete("p/2")).await.expect("writes");
}

pub(super) async fn feeds_every_write_in_order(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    // A shared store may have had other writes before: the revisions begin anywhere.
    let start = one.write(Batch::default().put("begin", "")).await.expect("writes");
    let first = one.write(Batch::default().put("a", "1").put("b", "1")).await.expect("writes");
    let second = one.write(Batch::default().delete("a").delete("x").put("c", "1")).await.expect("writes");
    let change = |revision, key: &str| Change { revision, key: key.into() };
    let all = vec![change(first, "a"), change(first, "b"), change(second, "a"), change(second, "c")];
    assert_eq!(other.changes(start, 100).await.expect("reads"), ChangeSet::Since(all.clone()));
    assert_eq!(other.changes(start, 1).await.expect("reads"), ChangeSet::Since(all[..2].to_vec()));
    assert_eq!(other.changes(first, 100).await.expect("reads"), ChangeSet::Since(all[2..].to_vec()));
    assert_eq!(other.changes(second, 100).await.expect("reads"), ChangeSet::Since(vec![]));
}

pub(super) async fn wakes_waiters_on_a_change(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("a", "1")).await.expect("writes");
    assert_eq!(other.wait_for_change(first - 1).await.expect("waits"), first);
    let waiting = tokio::spawn(async move { other.wait_for_change(first).await });
    let second = one.write(Batch::default().put("a", "2")).await.expect("writes");
    assert_eq!(waiting.await.expect("runs").expect("waits"), second);
}

pub(super) async fn loses_no_update_of_many_writers(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.write(Batch::default().put("count", "0")).await.expect("writes");
    let writers = (0..16).map(|n| {
        let store = if n % 2 == 0 { Arc::clone(&one) } else { Arc::clone(&other) };
        tokio::spawn(async move {
            for _ in 0..8 {
                loop {
                    let record = get_one(&*store, "count").await.expect("exists");
                    let count: u32 =
                        String::from_utf8(record.value).expect("text").parse().expect("a number");
                    let batch = Batch::default().require_unchanged("count", record.revision);
                    match store.write(batch.put("count", (count + 1).to_string())).await {
                        Ok(_) => break,
                        Err(WriteError::Conflict(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("runs");
    }
    assert_eq!(get_one(&*one, "count").await.map(|record| record.value), Some(b"128".to_vec()));
}

pub(super) async fn reserves_no_node_twice(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    const NODES: u128 = 6;
    const ALLOCATIONS: u128 = 10;
    let now = Timestamp::UNIX_EPOCH;
    let inventories = [one, other].map(Inventory::new);
    for n in 0..NODES {
        let node = Node {
            provision_state: ProvisionState::Available,
            power_state: Some(PowerState::Off),
            resource_class: Some("large".into()),
            ..Node::new(Uuid::from_u128(n), "fake-hardware", StorageInterface::Noop, now)
        };
        inventories[0].create(&node).await.expect("creates");
    }
    let allocations = (0..ALLOCATIONS).map(|n| {
        let inventory = inventories[n as usize % 2].clone();
        // All allocations try the nodes in the same order.
        let allocation = Allocation::new(Uuid::from_u128(n << 16), "large", now);
        tokio::spawn(async move { inventory.allocate(&allocation, now).await })
    });
    let mut reserved = BTreeSet::new();
    for allocation in allocations.collect::<Vec<_>>() {
        let allocation = allocation.await.expect("runs").expect("writes");
        if let Some(uuid) = allocation.node_uuid {
            let node = inventories[1].get::<Node>(uuid).await.expect("reads").expect("exists").value;
            assert_eq!(node.allocation(), Some(allocation.uuid));
            assert!(reserved.insert(uuid), "{uuid} is reserved twice");
        }
    }
    assert_eq!(reserved.len() as u128, NODES);
}

pub(super) async fn a_snapshot_shows_one_revision(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("a", "1").put("b", "1").put("c", "1")).await.expect("writes");
    let snapshot = other.snapshot().await.expect("reads");
    one.write(Batch::default().put("a", "2").delete("c").put("d", "2")).await.expect("writes");
    assert_eq!(snapshot.revision(), first);
    let record = |key: &str| Record { key: key.into(), revision: first, value: "1".into() };
    assert_eq!(snapshot.list(None, 2).await.expect("lists"), [record("a"), record("b")]);
    assert_eq!(snapshot.list(Some("b"), 2).await.expect("lists"), [record("c")]);
    assert_eq!(snapshot.list(Some("c"), 2).await.expect("lists"), []);
}

pub(super) async fn names_its_place_and_size(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.write(Batch::default().put("a", "1")).await.expect("writes");
    let info = one.info().await.expect("reads");
    assert!(!info.location.is_empty());
    assert_ne!(info.bytes, Some(0), "a record takes space");
    assert_eq!(other.info().await.expect("reads").location, info.location);
}

pub(super) async fn fails_without_hanging_after_close(one: Arc<dyn Store>, _other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("a", "1")).await.expect("writes");
    let waiting = tokio::spawn({
        let store = Arc::clone(&one);
        async move { store.wait_for_change(first).await }
    });
    one.close().await.expect("closes");
    assert!(waiting.await.expect("runs").is_err());
    assert!(matches!(one.write(Batch::default().put("a", "2")).await, Err(WriteError::Store(_))));
    assert!(one.close().await.is_err());
}
