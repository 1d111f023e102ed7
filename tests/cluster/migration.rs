//! 16: rolling upgrades with a new schema, and migrations that fail or are interrupted.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use volboot::config::EtcdConfig;
use volboot::store::{Batch, EtcdStore, Records, Schema, Step, StepError, Store};

use crate::etcd::{Etcd, Options};
use crate::{SESSION, is_stale, put, read, run, wait_until, wait_until_fresh};

const LONG: Duration = Duration::from_secs(60);
const RECORDS: usize = 1500;
const ENDPOINTS: &str = "VOLBOOT_MIGRATION_ENDPOINTS";
const DIRECTORY: &str = "VOLBOOT_MIGRATION_DIRECTORY";
const ABORTS: &str = "VOLBOOT_MIGRATION_ABORTS";

/// A step: appends a letter to every value under `m/`, and renames one record.
fn append(records: &mut dyn Records) -> Result<(), StepError> {
    for (key, mut value) in records.list("m/")? {
        value.push(b'x');
        records.put(&key, &value)?;
    }
    if let Some((key, value)) = records.list("old/")?.pop() {
        records.put(&key.replace("old/", "new/"), &value)?;
        records.delete(&key)?;
    }
    Ok(())
}

/// The release of today.
const TODAY: Schema = Schema { steps: &[|_| Ok(())], oldest: 2 };
const NEXT_STEPS: &[Step] = &[|_| Ok(()), append];
/// The release after it, which serves the records of today too.
const NEXT: Schema = Schema { steps: NEXT_STEPS, oldest: 2 };
const FAILING_STEPS: &[Step] = &[|_| Ok(()), |records| append(records).and(Err("disk full".into()))];
const FAILING: Schema = Schema { steps: FAILING_STEPS, oldest: 2 };
const ABORTING_STEPS: &[Step] = &[
    |_| Ok(()),
    |records| {
        append(records)?;
        std::process::abort()
    },
];
const ABORTING: Schema = Schema { steps: ABORTING_STEPS, oldest: 2 };

async fn open_as(etcd: &Etcd, name: &str, schema: Schema) -> Arc<EtcdStore> {
    let path = etcd.directory(name).join("volboot.redb");
    let store = EtcdStore::open_with_schema(etcd.config("/volboot/"), &path, SESSION, schema).await;
    let store = Arc::new(store.expect("opens"));
    // A migration may be under way.
    let announces = async || store.cluster().announce(name, b"{}".to_vec()).await.is_ok();
    wait_until(LONG, "announced", announces).await;
    store
}

async fn fill(store: &dyn Store) {
    let batch = (0..RECORDS).fold(Batch::default(), |batch, n| batch.put(format!("m/{n:04}"), "v"));
    store.write(batch.put("old/1", "renamed").put("other", "same")).await.expect("writes");
}

/// Waits until the schema is raised; checks that each record was migrated exactly once.
async fn expect_migrated(etcd: &Etcd, store: &dyn Store) {
    let raised =
        async || etcd.ctl(&["get", "--print-value-only", "/volboot/meta/cluster"]).contains("\"schema\":3}");
    wait_until(LONG, "the schema is raised", raised).await;
    wait_until_fresh(store).await;
    let migrated = async || read(store, "m/0000").await.is_ok_and(|text| text.as_deref() == Some("vx"));
    wait_until(LONG, "the mirror has the migrated records", migrated).await;
    let records = store.list("m/", None, RECORDS + 9).await.expect("lists");
    assert_eq!(records.len(), RECORDS);
    assert!(records.iter().all(|record| record.value == b"vx"), "migrated exactly once");
    assert_eq!(read(store, "new/1").await.expect("reads").as_deref(), Some("renamed"));
    assert_eq!(read(store, "old/1").await.expect("reads"), None);
    assert_eq!(read(store, "other").await.expect("reads").as_deref(), Some("same"));
    assert_eq!(etcd.ctl(&["get", "--prefix", "--keys-only", "/volboot/staged/"]).trim(), "");
    put(store, "other", "later").await.expect("writes");
}

#[test]
fn the_schema_is_raised_when_every_instance_understands_it() {
    run(Options::default(), |etcd| async move {
        let old = open_as(&etcd, "boot-1", TODAY).await;
        fill(&*old).await;
        let new = open_as(&etcd, "boot-2", NEXT).await;
        // Longer than two looks at the sessions.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(read(&*new, "m/0000").await.expect("reads").as_deref(), Some("v"));
        put(&*old, "other", "of the old one").await.expect("writes");
        put(&*new, "other", "same").await.expect("writes");
        let mut exported = Vec::new();
        volboot::store::export(&*new, &mut exported).await.expect("exports");
        assert!(exported.starts_with(br#"{"format":"volboot-export","version":1,"schema":2,"#));
        old.close().await.expect("closes");
        drop(old);
        expect_migrated(&etcd, &*new).await;
        let path = etcd.directory("boot-1").join("volboot.redb");
        let refused = EtcdStore::open_with_schema(etcd.config("/volboot/"), &path, SESSION, TODAY).await;
        let refused = refused.err().expect("the older version is refused");
        let cause = std::error::Error::source(&refused).expect("a cause").to_string();
        assert!(cause.contains("has schema 3, this volboot supports schema 2"), "{cause}");
    });
}

#[test]
fn a_failed_step_changes_nothing() {
    run(Options::default(), |etcd| async move {
        let old = open_as(&etcd, "boot-1", TODAY).await;
        fill(&*old).await;
        old.close().await.expect("closes");
        drop(old);
        let failing = open_as(&etcd, "boot-2", FAILING).await;
        // The migration begins, fails and gives the records back.
        tokio::time::sleep(Duration::from_secs(5)).await;
        wait_until_fresh(&*failing).await;
        assert_eq!(read(&*failing, "m/0000").await.expect("reads").as_deref(), Some("v"));
        put(&*failing, "other", "same").await.expect("writes");
        failing.close().await.expect("closes");
        drop(failing);
        let new = open_as(&etcd, "boot-3", NEXT).await;
        expect_migrated(&etcd, &*new).await;
    });
}

/// Killed in the steps, and while staged records replace the present ones.
#[test]
fn an_interrupted_migration_goes_on() {
    run(Options::default(), |etcd| async move {
        let old = open_as(&etcd, "boot-1", TODAY).await;
        fill(&*old).await;
        old.close().await.expect("closes");
        drop(old);
        let start = |aborts: &str| {
            Command::new(std::env::current_exe().expect("this program"))
                .args(["migration::process", "--exact", "--ignored"])
                .env(ENDPOINTS, etcd.config("/volboot/").endpoints.join(","))
                .env(DIRECTORY, etcd.directory("boot-2"))
                .env(ABORTS, aborts)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("starts")
        };
        let identity = || etcd.ctl(&["get", "--print-value-only", "/volboot/meta/cluster"]);
        let mut child = start("yes");
        wait_until(LONG, "the process aborts", async || child.try_wait().expect("waits").is_some()).await;
        assert!(identity().contains("\"is_staged\":false"), "{}", identity());
        // Half migrated records are not served, not even by today's release.
        let path = etcd.directory("boot-1").join("volboot.redb");
        let old = EtcdStore::open_with_schema(etcd.config("/volboot/"), &path, SESSION, TODAY).await;
        let old = old.expect("opens with its mirror");
        assert!(
            is_stale(&old) && read(&old, "m/0000").await.is_err() && put(&old, "m/0000", "1").await.is_err()
        );
        old.close().await.expect("closes");
        drop(old);
        let mut child = start("no");
        let is_staged =
            async || identity().contains("\"is_staged\":true") || identity().contains("\"schema\":3}");
        wait_until(LONG, "records are staged", is_staged).await;
        child.kill().expect("kills");
        child.wait().expect("ends");
        let new = open_as(&etcd, "boot-3", NEXT).await;
        expect_migrated(&etcd, &*new).await;
    });
}

/// Not a test: an instance of the next release.
#[test]
#[ignore = "started by another test"]
fn process() {
    let variable = |name| std::env::var(name).expect("set by the parent");
    let config = EtcdConfig {
        endpoints: variable(ENDPOINTS).split(',').map(str::to_owned).collect(),
        prefix: "/volboot/".to_owned(),
        username: None,
        password_file: None,
        cacert: None,
        certificate: None,
        key: None,
        allow_insecure: true,
    };
    let path = PathBuf::from(variable(DIRECTORY)).join("volboot.redb");
    let schema = if variable(ABORTS) == "yes" { ABORTING } else { NEXT };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async move {
        let store = EtcdStore::open_with_schema(config, &path, SESSION, schema).await.expect("opens");
        store.wait_for_failure().await;
    });
}
