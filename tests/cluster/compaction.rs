//! What etcd has compacted, or lost to a restored snapshot: mirrors go on without a load, or readers of changes are told.

use std::process::Output;
use std::time::Duration;

use volboot::store::{Change, ChangeSet, RedbStore, Store};

use crate::daemon::volboot;
use crate::etcd::{Etcd, Options};
use crate::{open, put, read, run, wait_until, wait_until_fresh};

const LONG: Duration = Duration::from_secs(60);

/// Raises etcd's revision beside the records, as sessions do, and compacts everything before.
fn idle_and_compact(etcd: &Etcd) {
    for n in 0..3 {
        etcd.ctl(&["put", "/other", &n.to_string()]);
    }
    etcd.compact_inside();
}

#[test]
fn an_idle_mirror_is_not_loaded_again() {
    run(Options::default(), |etcd| async move {
        let directory = etcd.directory("1");
        let store = open(etcd.config("/volboot/"), &directory).await;
        let first = put(&*store, "a", "1").await.expect("writes");
        let second = put(&*store, "b", "1").await.expect("writes");
        assert!(read(&*store, "b").await.expect("reads").is_some());
        store.close().await.expect("closes");
        drop(store);
        idle_and_compact(&etcd);
        let store = open(etcd.config("/volboot/"), &directory).await;
        wait_until_fresh(&*store).await;
        // A load would begin a new feed.
        let change = Change { revision: second, key: "b".into() };
        assert_eq!(store.changes(first, 9).await.expect("reads"), ChangeSet::Since(vec![change]));
        let third = put(&*store, "c", "1").await.expect("writes");
        let change = Change { revision: third, key: "c".into() };
        assert_eq!(store.changes(second, 9).await.expect("reads"), ChangeSet::Since(vec![change]));
    });
}

#[test]
fn records_are_copied_after_an_idle_time() {
    run(Options::default(), |etcd| async move {
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        put(&*store, "a", "1").await.expect("writes");
        store.close().await.expect("closes");
        drop(store);
        idle_and_compact(&etcd);
        let directory = etcd.directory("copy");
        let path = directory.join("volboot.redb");
        let text = format!(
            "[store]\npath = \"{}\"\n[store.etcd]\nendpoints = [\"{}\"]\nallow_insecure = true\n",
            path.display(),
            etcd.config("/volboot/").endpoints.join("\", \""),
        );
        let config = directory.join("volboot.toml");
        std::fs::write(&config, text).expect("writes");
        let output = volboot(&["store", "copy", "--to", "redb", "--config"]).arg(config).output();
        let Output { status, stderr, .. } = output.expect("the command runs");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        let file = RedbStore::open(&path).expect("opens");
        assert_eq!(read(&file, "a").await.expect("reads").as_deref(), Some("1"));
    });
}

#[test]
fn readers_of_changes_list_again_after_a_restored_snapshot() {
    run(Options::default(), |mut etcd| async move {
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        let saved = put(&*store, "a", "saved").await.expect("writes");
        let snapshot = etcd.directory("backup").join("etcd.db");
        etcd.snapshot(&snapshot);
        let mut lost = saved;
        for n in 0..20 {
            lost = put(&*store, "a", &format!("lost {n}")).await.expect("writes");
        }
        assert!(store.changes(lost, 9).await.expect("reads") == ChangeSet::Since(Vec::new()));
        let waiting = {
            let store = store.clone();
            tokio::spawn(async move { store.wait_for_change(lost).await })
        };
        etcd.restore(&snapshot);
        let latest = tokio::time::timeout(LONG, waiting).await.expect("is told").expect("runs");
        assert!(latest.expect("waits") < lost);
        let restored = async || read(&*store, "a").await.is_ok_and(|text| text.as_deref() == Some("saved"));
        wait_until(LONG, "the restored records", restored).await;
        // Also once the new history has grown beyond the reader's position.
        let mut latest = 0;
        while latest <= lost {
            latest = put(&*store, "b", "new").await.expect("writes");
        }
        assert_eq!(store.changes(lost, 9).await.expect("reads"), ChangeSet::Compacted(latest));
    });
}
