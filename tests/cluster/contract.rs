//! The battery of the contract over etcd, and what only etcd's limits make hard.

use std::sync::Arc;

use volboot::store::{Batch, Condition, Store, WriteError};

use crate::battery::TESTS;
use crate::etcd::Options;
use crate::{open, put, read, run};

#[test]
fn battery_over_two_handles() {
    run(Options::default(), |etcd| async move {
        for (name, test) in TESTS {
            let config = etcd.config(&format!("/{name}"));
            let one = open(config.clone(), &etcd.directory(&format!("{name}-1"))).await;
            let other = open(config, &etcd.directory(&format!("{name}-2"))).await;
            test(one.clone() as Arc<dyn Store>, other.clone() as Arc<dyn Store>).await;
            eprintln!("{name} passed");
            // Closed, unless the test has done so.
            let _ = one.close().await;
            let _ = other.close().await;
        }
    });
}

#[test]
fn a_batch_may_exceed_etcd_s_limits() {
    run(Options::default(), |etcd| async move {
        let one = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        let other = open(etcd.config("/volboot/"), &etcd.directory("2")).await;
        // Operations are nested; a deletion and a put of one key are merged.
        let mut batch = Batch::default().require_absent("n/0").delete("n/7").put("n/7", "once");
        batch = batch.put("n/7", "twice");
        batch = (100..1100).fold(batch, |batch, n| batch.put(format!("n/{n}"), "v"));
        let first = one.write(batch).await.expect("writes");
        assert_eq!(other.list("n/", None, 2000).await.expect("lists").len(), 1001);
        assert_eq!(read(&*other, "n/7").await.expect("reads").as_deref(), Some("twice"));
        // At most 122 conditions; one condition may cover a prefix.
        let all: Vec<_> = (100..1100).map(|n| format!("n/{n}")).collect();
        let each = |count: usize| {
            all[..count]
                .iter()
                .fold(Batch::default(), |batch, key| batch.require_unchanged(key, first).delete(key))
        };
        assert!(matches!(one.write(each(123)).await, Err(WriteError::Store(_))));
        one.write(each(122)).await.expect("writes");
        put(&*other, "n/1099", "changed").await.expect("writes");
        let mut rest = Batch::default().require_untouched("n/", first);
        rest.delete.extend_from_slice(&all[122..]);
        let conflict = one.write(rest).await;
        let expected = Condition::Untouched("n/".into(), first);
        assert!(matches!(conflict, Err(WriteError::Conflict(condition)) if condition == expected));
        // Of many conditions, the failed one is named.
        let mut named = all[122..240].iter().fold(Batch::default(), |b, key| b.require_unchanged(key, first));
        named = named.require_unchanged("n/1099", first);
        let conflict = one.write(named).await;
        let expected = Condition::Unchanged("n/1099".into(), first);
        assert!(matches!(conflict, Err(WriteError::Conflict(condition)) if condition == expected));
        // A record above etcd's limit of a request is refused, and the store goes on.
        let large = Batch::default().put("large", vec![b'x'; 1700 * 1024]);
        assert!(matches!(one.write(large).await, Err(WriteError::Store(_))));
        // A load and a watch beyond the usual 4 MiB of a response.
        for n in 0..6 {
            one.write(Batch::default().put(format!("big/{n}"), vec![b'x'; 1 << 20])).await.expect("writes");
        }
        let late = open(etcd.config("/volboot/"), &etcd.directory("3")).await;
        assert_eq!(late.list("big/", None, 9).await.expect("lists").len(), 6);
        assert_eq!(other.list("big/", None, 9).await.expect("lists").len(), 6);
    });
}
