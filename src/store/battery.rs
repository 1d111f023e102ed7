//! The battery: what the contract promises, run over every store, with two handles at once.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use super::*;

/// Two handles on one empty store.
type Pair = (Arc<dyn Store>, Arc<dyn Store>);

macro_rules! battery {
    ($name:ident, $pair:expr) => {
        mod $name {
            use super::*;

            battery!(@each $pair;
                a_record_is_read_as_it_was_written,
                a_list_is_in_order_of_keys_and_pages_without_gaps,
                a_batch_is_applied_whole_or_not_at_all,
                of_two_who_change_one_record_one_is_told,
                every_write_is_in_the_feed_in_order,
                the_feed_wakes_who_waits,
                work_is_claimed_by_one_at_a_time,
                many_writers_lose_nothing,
                after_the_end_everything_fails_and_nothing_hangs,
            );
        }
    };
    (@each $pair:expr; $($test:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let (_kept, (one, other)): (Option<tempfile::TempDir>, Pair) = $pair;
            timeout(Duration::from_secs(120), super::$test(one, other)).await.expect("ends in time");
        })*
    };
}

battery!(memory, {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    (None, (Arc::clone(&store), store))
});

battery!(redb, {
    let directory = tempfile::tempdir().expect("a directory");
    let store = RedbStore::open(&directory.path().join("new/store.redb")).expect("opens");
    let store: Arc<dyn Store> = Arc::new(store);
    (Some(directory), (Arc::clone(&store), store))
});

async fn one_key(store: &dyn Store, key: &str) -> Option<Record> {
    store.get(&[key.to_owned()]).await.expect("reads").pop().expect("an answer per key")
}

async fn keys(store: &dyn Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    store.list(prefix, after, limit).await.expect("lists").into_iter().map(|record| record.key).collect()
}

async fn a_record_is_read_as_it_was_written(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    assert_eq!(one_key(&*one, "a").await, None);
    let first = one.write(Batch::default().put("a", "1").put("b", "")).await.expect("writes");
    let second = one.write(Batch::default().put("a", "2")).await.expect("writes");
    assert!(second > first);
    let found = other.get(&["b".into(), "a".into(), "c".into()]).await.expect("reads");
    let record =
        |key: &str, revision, value: &str| Some(Record { key: key.into(), revision, value: value.into() });
    assert_eq!(found, [record("b", first, ""), record("a", second, "2"), None]);
    one.write(Batch::default().delete("a").delete("never there")).await.expect("writes");
    assert_eq!(one_key(&*other, "a").await, None);
}

async fn a_list_is_in_order_of_keys_and_pages_without_gaps(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let batch =
        ["n/2", "n/1", "m/9", "n/3", "o/1", "n"].iter().fold(Batch::default(), |b, key| b.put(*key, *key));
    one.write(batch).await.expect("writes");
    assert_eq!(keys(&*other, "n/", None, 10).await, ["n/1", "n/2", "n/3"]);
    assert_eq!(keys(&*other, "n/", None, 2).await, ["n/1", "n/2"]);
    assert_eq!(keys(&*other, "n/", Some("n/2"), 2).await, ["n/3"]);
    assert_eq!(keys(&*other, "n/", Some("n/22"), 2).await, ["n/3"]);
    assert_eq!(keys(&*other, "n/", Some("a"), 1).await, ["n/1"]);
    assert_eq!(keys(&*other, "n/", Some("z"), 1).await, Vec::<String>::new());
    assert_eq!(keys(&*other, "", None, 9).await.len(), 6);
}

async fn a_batch_is_applied_whole_or_not_at_all(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("a", "1")).await.expect("writes");
    for (batch, failed) in [
        (Batch::default().absent("a"), Condition::Absent("a".into())),
        (Batch::default().unchanged("a", first + 1), Condition::Unchanged("a".into(), first + 1)),
        (
            Batch::default().unchanged("a", first).unchanged("b", first),
            Condition::Unchanged("b".into(), first),
        ),
    ] {
        let refused = one.write(batch.put("c", "1").delete("a")).await;
        assert!(matches!(refused, Err(WriteError::Conflict(condition)) if condition == failed));
        assert_eq!(keys(&*other, "", None, 9).await, ["a"]);
    }
    let good = Batch::default().unchanged("a", first).absent("c").put("c", "1").delete("a");
    one.write(good).await.expect("writes");
    assert_eq!(keys(&*other, "", None, 9).await, ["c"]);
    // Deleting and putting one key in one batch leaves what was put.
    one.write(Batch::default().delete("c").put("c", "2")).await.expect("writes");
    assert_eq!(one_key(&*other, "c").await.map(|record| record.value), Some(b"2".to_vec()));
}

async fn of_two_who_change_one_record_one_is_told(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("a", "1")).await.expect("writes");
    let change = |value: &str| Batch::default().unchanged("a", first).put("a", value);
    let (left, right) = tokio::join!(one.write(change("left")), other.write(change("right")));
    assert_eq!(u8::from(left.is_ok()) + u8::from(right.is_ok()), 1);
    let expected = if left.is_ok() { "left" } else { "right" };
    assert_eq!(one_key(&*one, "a").await.map(|record| record.value), Some(expected.into()));
}

async fn every_write_is_in_the_feed_in_order(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("a", "1").put("b", "1")).await.expect("writes");
    let second = one.write(Batch::default().delete("a").delete("x").put("c", "1")).await.expect("writes");
    let change = |revision, key: &str| Change { revision, key: key.into() };
    let all = vec![change(first, "a"), change(first, "b"), change(second, "a"), change(second, "c")];
    assert_eq!(other.changes(0, 100).await.expect("reads"), Changes::Since(all.clone()));
    assert_eq!(other.changes(0, 1).await.expect("reads"), Changes::Since(all[..2].to_vec()));
    assert_eq!(other.changes(first, 100).await.expect("reads"), Changes::Since(all[2..].to_vec()));
    assert_eq!(other.changes(second, 100).await.expect("reads"), Changes::Since(vec![]));
}

async fn the_feed_wakes_who_waits(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let first = one.write(Batch::default().put("a", "1")).await.expect("writes");
    assert_eq!(other.changed(0).await.expect("waits"), first);
    let waiting = tokio::spawn(async move { other.changed(first).await });
    let second = one.write(Batch::default().put("a", "2")).await.expect("writes");
    assert_eq!(waiting.await.expect("runs").expect("waits"), second);
}

async fn work_is_claimed_by_one_at_a_time(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let minute = Duration::from_secs(60);
    let claim = |store: Arc<dyn Store>, holder: &'static str, now: Timestamp| async move {
        store.claim("node/1", holder, now, minute).await.expect("answers").map(|claim| claim.holder)
    };
    let (left, right) = tokio::join!(claim(one.clone(), "one", start), claim(other.clone(), "other", start));
    let winner = if left.is_none() { "one" } else { "other" };
    let loser = if left.is_none() { "other" } else { "one" };
    assert_eq!((left.is_none(), right.is_none()), (winner == "one", winner == "other"));
    assert_eq!(claim(one.clone(), winner, start + minute / 2).await, None);
    assert_eq!(claim(one.clone(), loser, start + minute).await, Some(winner.to_owned()));
    assert_eq!(claim(other.clone(), loser, start + minute * 2).await, None);
    assert_eq!(claim(one, winner, start + minute * 2).await, Some(loser.to_owned()));
}

async fn many_writers_lose_nothing(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.write(Batch::default().put("count", "0")).await.expect("writes");
    let writers = (0..16).map(|n| {
        let store = if n % 2 == 0 { Arc::clone(&one) } else { Arc::clone(&other) };
        tokio::spawn(async move {
            for _ in 0..8 {
                loop {
                    let record = one_key(&*store, "count").await.expect("is there");
                    let count: u32 =
                        String::from_utf8(record.value).expect("text").parse().expect("a number");
                    let batch = Batch::default().unchanged("count", record.revision);
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
    assert_eq!(one_key(&*one, "count").await.map(|record| record.value), Some(b"128".to_vec()));
}

async fn after_the_end_everything_fails_and_nothing_hangs(one: Arc<dyn Store>, other: Arc<dyn Store>) {
    one.write(Batch::default().put("a", "1")).await.expect("writes");
    let waiting = tokio::spawn({
        let store = Arc::clone(&other);
        async move { store.changed(1).await }
    });
    one.close().await.expect("closes");
    assert!(waiting.await.expect("runs").is_err());
    assert!(matches!(other.write(Batch::default().put("a", "2")).await, Err(WriteError::Store(_))));
    assert!(other.close().await.is_err());
}
