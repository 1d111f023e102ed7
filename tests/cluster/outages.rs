//! Outages of etcd as a whole, and mirrors that have missed something.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use volboot::store::{Attachments, Change, ChangeSet, Freshness, Store, StoreAccess};

use crate::etcd::Options;
use crate::{is_stale, open, put, read, run, wait_until, wait_until_fresh};

const LONG: Duration = Duration::from_secs(30);

/// 5 and 8: the instance is cut off, others write and compact; afterwards it has everything.
#[test]
fn a_cut_off_instance_knows_that_it_is() {
    run(Options::default(), |etcd| async move {
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        let first = put(&*store, "a", "before").await.expect("writes");
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("before"));
        etcd.cut_off();
        wait_until(LONG, "the outage is known", async || is_stale(&*store)).await;
        let asked_at = Instant::now();
        assert!(read(&*store, "a").await.is_err());
        assert!(put(&*store, "a", "lost").await.is_err());
        assert!(store.cluster().claim("w", b"").await.is_err());
        assert!(asked_at.elapsed() < LONG, "every wait has a limit");
        assert!(matches!(store.access(), StoreAccess::ReadOnly(reason) if !reason.is_empty()));
        let Freshness::Stale { age, .. } = store.freshness() else { panic!("is stale") };
        assert!(age < LONG + LONG);
        let known = (Arc::clone(&store) as Arc<dyn Store>).last_known();
        assert_eq!(read(&*known, "a").await.expect("reads").as_deref(), Some("before"));
        assert!(put(&*known, "a", "lost").await.is_err());
        // The feed of attachments waits for no quorum.
        let records = Attachments::new(Arc::clone(&store) as Arc<dyn Store>);
        assert_eq!(records.wait_for_change(first - 1).await.expect("reads the mirror").revision, first);
        // The members still reach one another: another client writes there, and compacts.
        etcd.ctl_inside(&["put", "/volboot/r/b", "while away"]);
        etcd.ctl_inside(&["put", "/volboot/tick", "x"]);
        etcd.compact_inside();
        etcd.reconnect();
        wait_until_fresh(&*store).await;
        assert_eq!(read(&*store, "b").await.expect("reads").as_deref(), Some("while away"));
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("before"));
        assert!(matches!(store.changes(first, 9).await.expect("reads"), ChangeSet::Compacted(_)));
        put(&*store, "a", "after").await.expect("writes");
    });
}

/// 6: the only member that the instance reaches is without a quorum: no read is answered from it.
#[test]
fn a_minority_member_is_not_believed() {
    run(Options::default(), |etcd| async move {
        let other = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        put(&*other, "a", "old").await.expect("writes");
        let mut config = etcd.config("/volboot/");
        config.endpoints = vec![etcd.endpoint(0)];
        let store = open(config.clone(), &etcd.directory("2")).await;
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("old"));
        etcd.isolate(0);
        let written = async || put(&*other, "a", "new").await.is_ok();
        wait_until(LONG, "the majority writes", written).await;
        for _ in 0..3 {
            let answer = read(&*store, "a").await;
            assert!(answer.is_err(), "a read of the minority: {answer:?}");
        }
        assert!(put(&*store, "a", "of the minority").await.is_err());
        wait_until(LONG, "the outage is known", async || is_stale(&*store)).await;
        // A new instance starts there with nothing, and says so.
        let late = open(config, &etcd.directory("3")).await;
        assert!(is_stale(&*late));
        assert!(read(&*(late as Arc<dyn Store>).last_known(), "a").await.is_err());
        etcd.rejoin(0);
        wait_until_fresh(&*store).await;
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("new"));
    });
}

/// An instance starts while etcd is away, with its mirror; its feed continues afterwards.
#[test]
fn an_instance_starts_without_etcd() {
    run(Options::default(), |etcd| async move {
        let directory = etcd.directory("1");
        let store = open(etcd.config("/volboot/"), &directory).await;
        let first = put(&*store, "a", "1").await.expect("writes");
        assert!(read(&*store, "a").await.is_ok());
        store.close().await.expect("closes");
        drop(store);
        etcd.cut_off();
        let store = open(etcd.config("/volboot/"), &directory).await;
        assert!(is_stale(&*store));
        assert!(read(&*store, "a").await.is_err());
        let known = (Arc::clone(&store) as Arc<dyn Store>).last_known();
        assert_eq!(read(&*known, "a").await.expect("reads").as_deref(), Some("1"));
        etcd.ctl_inside(&["put", "/volboot/r/b", "2"]);
        etcd.ctl_inside(&["put", "/volboot/tick", "x"]);
        etcd.reconnect();
        wait_until_fresh(&*store).await;
        assert_eq!(read(&*store, "b").await.expect("reads").as_deref(), Some("2"));
        let third = put(&*store, "c", "3").await.expect("writes");
        let ChangeSet::Since(changes) = store.changes(first, 9).await.expect("reads") else {
            panic!("the feed has a gap");
        };
        assert_eq!(changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(changes.last(), Some(&Change { revision: third, key: "c".into() }));
        store.close().await.expect("closes");
        drop((store, known));
        // 8: the mirror is older than the last compaction.
        etcd.ctl(&["del", "/volboot/r/a"]);
        etcd.ctl(&["put", "/volboot/tick", "y"]);
        etcd.compact_inside();
        let store = open(etcd.config("/volboot/"), &directory).await;
        assert_eq!(read(&*store, "a").await.expect("reads"), None);
        assert_eq!(read(&*store, "c").await.expect("reads").as_deref(), Some("3"));
    });
}

/// 8: a restored snapshot has older revisions; the mirror follows it.
#[test]
fn a_restored_snapshot_replaces_the_mirror() {
    run(Options::default(), |mut etcd| async move {
        let directory = etcd.directory("1");
        let store = open(etcd.config("/volboot/"), &directory).await;
        put(&*store, "a", "saved").await.expect("writes");
        let snapshot = etcd.directory("backup").join("etcd.db");
        etcd.snapshot(&snapshot);
        for n in 0..20 {
            put(&*store, "a", &format!("lost {n}")).await.expect("writes");
        }
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("lost 19"));
        etcd.restore(&snapshot);
        // While the instance runs.
        let restored = async || read(&*store, "a").await.is_ok_and(|text| text.as_deref() == Some("saved"));
        wait_until(LONG, "the mirror shows the snapshot", restored).await;
        put(&*store, "a", "later").await.expect("writes");
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("later"));
    });
}
