//! volboot as a service: what it tells the service manager, which is played here by a socket of our own.

use std::os::unix::net::UnixDatagram;

use crate::daemon::{Daemon, LIMIT, site};

/// Where a service is told to report to.
struct Manager(UnixDatagram);

impl Manager {
    /// The next report, without the beats of the watchdog and the words for people.
    fn told(&self) -> Vec<String> {
        loop {
            let report: Vec<_> = self.any().into_iter().filter(|line| !line.starts_with("STATUS=")).collect();
            if report != ["WATCHDOG=1"] {
                return report;
            }
        }
    }

    fn any(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let size = self.0.recv(&mut buffer).expect("a report in time");
        str::from_utf8(&buffer[..size]).expect("text").lines().map(ToOwned::to_owned).collect()
    }
}

#[test]
fn the_service_manager_is_told_all_it_wants_to_know() {
    let site = site("");
    let path = site.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).expect("binds"));
    manager.0.set_read_timeout(Some(LIMIT)).expect("is set");
    let mut daemon = Daemon::start_with(site.path(), |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    });
    assert_eq!(manager.told(), ["READY=1"]);
    // Once at the start, and again, and again.
    for _ in 0..3 {
        while manager.any() != ["WATCHDOG=1"] {}
    }

    for config in ["[boot]\ntries = 3\n", "no configuration"] {
        std::fs::write(site.path().join("volboot.toml"), config).expect("is written");
        daemon.hang_up();
        let reloading = manager.told();
        assert_eq!(reloading[0], "RELOADING=1");
        let since = reloading[1].strip_prefix("MONOTONIC_USEC=").expect("the time");
        assert!(since.parse::<u64>().is_ok_and(|since| since > 0), "{since}");
        assert_eq!(manager.told(), ["READY=1"]);
    }

    daemon.terminate();
    assert_eq!(manager.told(), ["STOPPING=1"]);
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn without_a_watchdog_nobody_is_told_of_life() {
    let site = site("");
    let path = site.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).expect("binds"));
    manager.0.set_read_timeout(Some(LIMIT)).expect("is set");
    let mut daemon = Daemon::start_with(site.path(), |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    daemon.stop();
    assert!(manager.any().contains(&"READY=1".to_owned()));
    assert!(manager.any().contains(&"STOPPING=1".to_owned()));
}
