//! 9: etcd is out of space.

use std::time::Duration;

use volboot::store::{Store, StoreAccess, StoreError, WriteError};

use crate::etcd::Options;
use crate::{open, put, read, run, wait_until, wait_until_fresh};

const LONG: Duration = Duration::from_secs(40);

#[test]
fn without_space_the_store_is_read_only_and_says_so() {
    let arguments = vec!["--quota-backend-bytes".to_owned(), (4 << 20).to_string()];
    run(Options { arguments, ..Options::default() }, |etcd| async move {
        let store = open(etcd.config("/volboot/"), &etcd.directory("1")).await;
        put(&*store, "a", "1").await.expect("writes");
        let claim = store.cluster().claim("w", b"").await.expect("responds").expect("is free");
        let large = "x".repeat(500 * 1024);
        let mut refused = None;
        for n in 0..20 {
            if let Err(error) = put(&*store, &format!("large/{}", n % 2), &large).await {
                refused = Some(error);
                break;
            }
        }
        let refused = refused.expect("the quota is 4 MiB");
        let says = |text: &str| text.contains("NOSPACE");
        assert!(matches!(&refused, WriteError::Store(StoreError::ReadOnly(text)) if says(text)), "{refused}");
        assert!(matches!(store.access(), StoreAccess::ReadOnly(text) if says(&text)));
        // Reads go on, and so does the session.
        assert_eq!(read(&*store, "a").await.expect("reads").as_deref(), Some("1"));
        tokio::time::sleep(crate::SESSION * 2).await;
        assert!(!claim.is_lost(), "keep-alives need no space");
        // A new instance reads, but gets no session.
        let late = open(etcd.config("/volboot/"), &etcd.directory("2")).await;
        assert_eq!(read(&*late, "a").await.expect("reads").as_deref(), Some("1"));
        assert!(late.cluster().claim("v", b"").await.is_err());
        assert!(matches!(late.access(), StoreAccess::ReadOnly(text) if says(&text)));
        etcd.compact_inside();
        etcd.ctl(&["defrag"]);
        etcd.ctl(&["alarm", "disarm"]);
        let writes =
            async || store.access() == StoreAccess::ReadWrite && put(&*store, "a", "2").await.is_ok();
        wait_until(LONG, "writes go on", writes).await;
        wait_until_fresh(&*late).await;
        let claims = async || late.cluster().claim("v", b"").await.is_ok();
        wait_until(LONG, "the new instance gets a session", claims).await;
    });
}
