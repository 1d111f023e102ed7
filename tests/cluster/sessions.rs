//! Sessions and claims of two processes: exclusion, fencing, and what a neighbour in etcd can do to them.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use volboot::store::{Batch, Condition, Store, WriteError};

use crate::child::{Instance, increment};
use crate::etcd::Options;
use crate::{is_stale, open, put, read, run, wait_until, wait_until_fresh};

const LONG: Duration = Duration::from_secs(30);

/// No update is lost between two processes (the list of failures: 2, the store's part).
#[test]
fn two_processes_lose_no_update() {
    run(Options::default(), |etcd| async move {
        let config = etcd.config("/volboot/");
        let store = open(config.clone(), &etcd.directory("1")).await;
        put(&*store, "count", "0").await.expect("writes");
        let mut other = Instance::start(&config, &etcd.directory("2")).await;
        other.send("count 60").await;
        for _ in 0..60 {
            increment(&*store).await;
        }
        assert_eq!(other.answer().await, "counted");
        assert_eq!(read(&*store, "count").await.expect("reads").as_deref(), Some("120"));
        assert_eq!(other.ask("read count").await, "Ok(Some(\"120\"))");
    });
}

/// 3: a process that slept through its lease cannot write what it knew.
#[test]
fn a_suspended_holder_is_fenced() {
    run(Options::default(), |etcd| async move {
        let config = etcd.config("/volboot/");
        let store = open(config.clone(), &etcd.directory("1")).await;
        let mut holder = Instance::start(&config, &etcd.directory("2")).await;
        assert_eq!(holder.ask("claim volume/1").await, "claimed");
        assert_eq!(holder.ask("write a holder").await, "written");
        assert!(store.cluster().claim("volume/1", b"").await.expect("responds").is_none());
        kill(Pid::from_raw(holder.id()), Signal::SIGSTOP).expect("runs");
        let mut claim = None;
        wait_until(LONG, "the claim is free", async || {
            claim = store.cluster().claim("volume/1", b"").await.expect("responds");
            claim.is_some()
        })
        .await;
        let claim = claim.expect("claimed");
        store.write(Batch::default().require_held(claim.id()).put("a", "successor")).await.expect("writes");
        kill(Pid::from_raw(holder.id()), Signal::SIGCONT).expect("runs");
        assert_eq!(holder.ask("is-lost").await, "true", "by the holder's own clock");
        assert_eq!(holder.ask("write a holder").await, "fenced");
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("successor"));
        // The woken process gets a session again.
        drop(claim);
        let regains = async || holder.ask("claim volume/1").await == "claimed";
        wait_until(LONG, "the holder claims again", regains).await;
        assert_eq!(holder.ask("write a again").await, "written");
    });
}

/// 13: a neighbour revokes the lease, then deletes the prefix; another cluster's prefix is refused.
#[test]
fn a_neighbour_cannot_break_the_fence() {
    run(Options::default(), |etcd| async move {
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        store.cluster().announce("boot-1", b"{}".to_vec()).await.expect("announces");
        let claim = store.cluster().claim("w", b"").await.expect("responds").expect("is free");
        let before = store.cluster().instances().await.expect("lists")[0].session.clone();
        for lease in etcd.ctl(&["lease", "list"]).lines().skip(1) {
            etcd.ctl(&["lease", "revoke", lease]);
        }
        let lost = store.write(Batch::default().require_held(claim.id()).put("a", "1")).await;
        assert!(matches!(lost, Err(WriteError::Conflict(Condition::Held(_)))));
        claim.wait_for_loss().await;
        wait_until(LONG, "a new session is announced", async || {
            let instances = store.cluster().instances().await.expect("lists");
            instances.len() == 1 && instances[0].session != before
        })
        .await;
        put(&*store, "a", "kept").await.expect("writes");
        let foreign = etcd.directory("foreign");
        let other = open(etcd.config("/other/"), &foreign).await;
        put(&*other, "a", "other").await.expect("writes");
        other.close().await.expect("closes");
        drop(other);
        let path = foreign.join("volboot.redb");
        let refused = volboot::store::EtcdStore::open(etcd.config("/volboot/"), &path, crate::SESSION).await;
        let refused = refused.err().map(|error| format!("{error}: {:?}", std::error::Error::source(&error)));
        assert!(refused.as_ref().is_some_and(|text| text.contains("another cluster")), "{refused:?}");
        etcd.ctl(&["put", "/foreign/key", "1"]);
        let path = etcd.directory("3").join("volboot.redb");
        let refused = volboot::store::EtcdStore::open(etcd.config("/foreign/"), &path, crate::SESSION).await;
        assert!(refused.is_err(), "the prefix holds other keys");
        // A deleted prefix is no empty store.
        etcd.ctl(&["del", "--prefix", "/volboot/"]);
        wait_until(LONG, "the loss is noticed", async || is_stale(&*store)).await;
        assert!(read(&*store, "a").await.is_err());
        let known = std::sync::Arc::clone(&store) as std::sync::Arc<dyn Store>;
        assert_eq!(read(&*known.last_known(), "a").await.expect("reads").as_deref(), Some("kept"));
        wait_until_fresh(&*open(etcd.config("/other/"), &foreign).await).await;
    });
}
