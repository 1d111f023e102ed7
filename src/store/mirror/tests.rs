//! Tests of the mirror: restarts, earlier histories, unreadable files.

use futures_util::FutureExt as _;

use super::*;

fn put(revision: Revision, key: &str) -> MirroredWrite {
    MirroredWrite {
        revision,
        changes: vec![(key.to_owned(), Some(b"v".to_vec()))],
        tick: Some(format!("tick {revision}")),
    }
}

#[tokio::test]
async fn a_mirror_keeps_records_and_feed_over_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("new/volboot.redb");
    let mirror = Mirror::open_blocking(&store).expect("opens");
    assert!(mirror.get(&["a".into()]).await.is_err(), "nothing was loaded");
    let load = mirror.begin_load().expect("begins");
    let old = Record { key: "a".into(), revision: 40, value: b"1".to_vec() };
    load.insert(std::slice::from_ref(&old)).expect("inserts");
    let source = MirrorSource { identity: "cluster-1", schema: 2, tick: "tick 41" };
    mirror.finish_load(load, 41, &source).expect("ends");
    assert_eq!(mirror.tick().expect("reads").as_deref(), Some("tick 41"));
    // Revisions have gaps.
    mirror.apply_blocking(&[put(50, "b"), put(60, "c")]).expect("applies");
    mirror.apply_blocking(&[put(60, "c")]).expect("skips");
    assert_eq!(mirror.tick().expect("reads").as_deref(), Some("tick 60"));
    let feed = |revision, key: &str| Change { revision, key: key.to_owned() };
    let all = ChangeSet::Since(vec![feed(50, "b"), feed(60, "c")]);
    assert_eq!(mirror.changes(41, 9).await.expect("reads"), all);
    assert_eq!(mirror.changes(40, 9).await.expect("reads"), ChangeSet::Compacted(60));
    assert_eq!(mirror.changes(61, 9).await.expect("reads"), ChangeSet::Compacted(60));
    mirror.flush_blocking(UNIX_EPOCH + Duration::from_secs(7)).expect("flushes");
    let id = mirror.id().to_owned();
    drop(mirror);
    let mirror = Mirror::open_blocking(&store).expect("opens");
    assert_eq!((mirror.id(), mirror.revision()), (id.as_str(), 60));
    let (source, heard) = mirror.source().expect("reads");
    assert_eq!(source.as_deref(), Some("cluster-1"));
    assert_eq!(heard, Some(UNIX_EPOCH + Duration::from_secs(7)));
    assert_eq!(mirror.get(&["a".into()]).await.expect("reads"), [Some(old)]);
    assert_eq!(mirror.changes(50, 9).await.expect("reads"), ChangeSet::Since(vec![feed(60, "c")]));
}

#[tokio::test]
async fn readers_of_an_earlier_history_list_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mirror = Mirror::open_blocking(&directory.path().join("volboot.redb")).expect("opens");
    let load = |revision| {
        let load = mirror.begin_load().expect("begins");
        let source = MirrorSource { identity: "cluster-1", schema: 2, tick: "tick" };
        mirror.finish_load(load, revision, &source).expect("ends");
    };
    load(850);
    assert_eq!(mirror.schema().expect("reads"), 2);
    mirror.apply_blocking(&[put(900, "lost")]).expect("applies");
    assert_eq!(mirror.changes(900, 9).await.expect("reads"), ChangeSet::Since(Vec::new()));
    let news = |after| mirror.wait_for_change(after).now_or_never();
    assert!(news(900).is_none());
    load(850);
    assert_eq!(news(900).expect("is told at once").expect("reads"), 850);
    assert_eq!(mirror.changes(900, 9).await.expect("reads"), ChangeSet::Compacted(850));
    assert!(news(850).is_none(), "who has listed again waits for a write");
    // The new history grows beyond what the reader has seen of the earlier one.
    mirror.apply_blocking(&[put(880, "a"), put(950, "b")]).expect("applies");
    assert_eq!(mirror.changes(900, 9).await.expect("reads"), ChangeSet::Compacted(950));
    assert!(news(950).is_none());
    mirror.apply_blocking(&[put(960, "c")]).expect("applies");
    let change = Change { revision: 960, key: "c".into() };
    assert_eq!(mirror.changes(950, 9).await.expect("reads"), ChangeSet::Since(vec![change]));
}

#[tokio::test]
async fn an_unreadable_mirror_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = directory.path().join("volboot.redb");
    fs::write(append_to_name(&store, ".mirror"), "no database").expect("writes");
    assert_eq!(Mirror::open_blocking(&store).expect("opens").revision(), 0);
}
