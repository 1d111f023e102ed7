//! Failures of members while others write and read: short outages, no lost write, no stale read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use volboot::store::{Batch, Store, WriteError};

use crate::etcd::{Etcd, Options};
use crate::{open, put, read, run, wait_until};

/// The longest pause of writes that a fault may cause: the election of a leader, a time-out, and the load of this host.
const PAUSE: Duration = Duration::from_secs(6);
/// The time after each fault.
const PERIOD: Duration = Duration::from_secs(4);

/// What the writer knows.
#[derive(Default)]
struct Progress {
    /// The last acknowledged number.
    acknowledged: AtomicU64,
    /// Writes that failed without an answer.
    unknown: AtomicU64,
    /// Rounds of the reader.
    reads: AtomicU64,
    /// The longest time between two acknowledged writes, in milliseconds.
    pause: AtomicU64,
}

/// Counts up, each number once, and never repeats a write that may have been applied.
async fn write_numbers(store: Arc<dyn Store>, progress: Arc<Progress>, stop: CancellationToken) {
    let mut last = Instant::now();
    let mut revision = put(&*store, "n", "0").await.expect("writes");
    let mut number = 0;
    while !stop.is_cancelled() {
        let batch = Batch::default().require_unchanged("n", revision).put("n", (number + 1).to_string());
        match store.write(batch).await {
            Ok(written) => {
                (revision, number) = (written, number + 1);
                progress.acknowledged.store(number, Ordering::SeqCst);
                let pause = u64::try_from(last.elapsed().as_millis()).expect("a short time");
                progress.pause.fetch_max(pause, Ordering::SeqCst);
                last = Instant::now();
            }
            Err(WriteError::Conflict(condition)) => panic!("nobody else writes: {condition}"),
            Err(WriteError::Store(_)) => {
                progress.unknown.fetch_add(1, Ordering::SeqCst);
                let Some(record) = read_again(&*store).await else { return };
                revision = record.0;
                assert!(record.1 == number || record.1 == number + 1, "{} after {number}", record.1);
                number = record.1;
                progress.acknowledged.store(number, Ordering::SeqCst);
            }
        }
    }
}

/// The record, once the store is fresh.
async fn read_again(store: &dyn Store) -> Option<(u64, u64)> {
    for _ in 0..1000 {
        if let Ok(mut records) = store.get(&["n".to_owned()]).await {
            let record = records.pop().flatten().expect("exists");
            let number = String::from_utf8(record.value).expect("text").parse().expect("a number");
            return Some((record.revision, number));
        }
        sleep(Duration::from_millis(20)).await;
    }
    None
}

/// Reads through another instance: at least the number that was acknowledged before the read.
async fn read_numbers(store: Arc<dyn Store>, progress: Arc<Progress>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let expected = progress.acknowledged.load(Ordering::SeqCst);
        // A failed read is no stale read.
        if let Ok(Some(text)) = read(&*store, "n").await {
            let number: u64 = text.parse().expect("a number");
            assert!(number >= expected, "a stale read: {number} after {expected} was acknowledged");
            progress.reads.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Waits until writes and reads go on, `PERIOD` after a fault.
async fn expect_progress(progress: &Progress, fault: &str) {
    sleep(PERIOD).await;
    let (writes, reads) =
        (progress.acknowledged.load(Ordering::SeqCst), progress.reads.load(Ordering::SeqCst));
    wait_until(PAUSE, fault, async || {
        progress.acknowledged.load(Ordering::SeqCst) > writes && progress.reads.load(Ordering::SeqCst) > reads
    })
    .await;
}

async fn break_members(etcd: &mut Etcd, progress: &Progress) {
    let leader = etcd.leader();
    etcd.kill(leader);
    expect_progress(progress, "leader killed").await;
    etcd.restart(leader);
    let leader = etcd.leader();
    etcd.signal(leader, Signal::SIGSTOP);
    expect_progress(progress, "leader stopped").await;
    etcd.signal(leader, Signal::SIGCONT);
    let follower = (etcd.leader() + 1) % 3;
    etcd.signal(follower, Signal::SIGSTOP);
    expect_progress(progress, "follower stopped").await;
    etcd.signal(follower, Signal::SIGCONT);
    let leader = etcd.leader();
    etcd.isolate(leader);
    expect_progress(progress, "leader cut off").await;
    etcd.rejoin(leader);
    let follower = (etcd.leader() + 1) % 3;
    etcd.isolate(follower);
    expect_progress(progress, "follower cut off").await;
    etcd.rejoin(follower);
    expect_progress(progress, "all members back").await;
}

/// 4: the leader or a follower is killed, stopped or cut off, in the middle of writes.
#[test]
fn a_failed_member_costs_a_short_pause_and_no_write() {
    run(Options::default(), |mut etcd| async move {
        let writer = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        // The reader prefers other members.
        let mut config = etcd.config("/volboot/");
        config.endpoints.rotate_left(1);
        let reader = open(config, &etcd.directory("2")).await;
        put(&*writer, "n", "0").await.expect("writes");
        let (progress, stop) = (Arc::<Progress>::default(), CancellationToken::new());
        let writing = tokio::spawn(write_numbers(writer, Arc::clone(&progress), stop.clone()));
        let reading =
            (0..4).map(|_| tokio::spawn(read_numbers(reader.clone(), Arc::clone(&progress), stop.clone())));
        let reading: Vec<_> = reading.collect();
        break_members(&mut etcd, &progress).await;
        stop.cancel();
        writing.await.expect("every write is accounted for");
        for reader in reading {
            reader.await.expect("no read is stale");
        }
        eprintln!(
            "{} writes, {} without an answer, {} reads, longest pause {} ms",
            progress.acknowledged.load(Ordering::SeqCst),
            progress.unknown.load(Ordering::SeqCst),
            progress.reads.load(Ordering::SeqCst),
            progress.pause.load(Ordering::SeqCst),
        );
    });
}

/// 12: a member is lost for good, and a new one has another address.
#[test]
fn a_member_is_replaced() {
    run(Options::default(), |mut etcd| async move {
        // An instance that knows the members of before, and is not restarted.
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        put(&*store, "a", "1").await.expect("writes");
        let claim = store.cluster().claim("w", b"").await.expect("responds").expect("is free");
        let new = etcd.replace(0);
        put(&*store, "a", "2").await.expect("two of three known members are there");
        let mut config = etcd.config("/volboot/");
        config.endpoints = vec![etcd.endpoint(new)];
        let other = open(config, &etcd.directory("2")).await;
        assert_eq!(read(&*other, "a").await.expect("reads").as_deref(), Some("2"));
        // The majority now needs the new one.
        etcd.kill(1);
        crate::wait_until_fresh(&*store).await;
        let writes = async || put(&*store, "a", "3").await.is_ok();
        wait_until(Duration::from_secs(20), "writes go on", writes).await;
        assert_eq!(read(&*other, "a").await.expect("reads").as_deref(), Some("3"));
        assert!(store.cluster().claim("w", b"").await.expect("responds").is_none(), "the session goes on");
        drop(claim);
    });
}

/// 12: all members restart at once; the store and its session go on.
#[test]
fn all_members_restart() {
    run(Options::default(), |mut etcd| async move {
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        put(&*store, "a", "1").await.expect("writes");
        let claim = store.cluster().claim("w", b"").await.expect("responds").expect("is free");
        (0..3).for_each(|member| etcd.kill(member));
        wait_until(Duration::from_secs(20), "the outage is known", async || crate::is_stale(&*store)).await;
        assert!(put(&*store, "a", "2").await.is_err());
        assert!(read(&*store, "a").await.is_err());
        assert!(claim.is_lost(), "no keep-alive was answered");
        (0..3).for_each(|member| etcd.restart_without_wait(member));
        crate::wait_until_fresh(&*store).await;
        put(&*store, "a", "3").await.expect("writes");
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("3"));
    });
}
