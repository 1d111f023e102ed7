//! Notifications to the service manager (sd_notify), received here by a socket of the test.

use std::os::unix::net::UnixDatagram;

use crate::daemon::{Daemon, LIMIT, site};

/// The service manager's notification socket.
struct ServiceManager(UnixDatagram);

impl ServiceManager {
    /// The next notification, without watchdog keep-alives and status texts.
    fn next_notification(&self) -> Vec<String> {
        loop {
            let lines: Vec<_> =
                self.receive().into_iter().filter(|line| !line.starts_with("STATUS=")).collect();
            if lines != ["WATCHDOG=1"] {
                return lines;
            }
        }
    }

    /// Receives one notification.
    fn receive(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let size = self.0.recv(&mut buffer).expect("a notification within the time-out");
        str::from_utf8(&buffer[..size]).expect("text").lines().map(ToOwned::to_owned).collect()
    }
}

#[test]
fn readiness_watchdog_reload_and_stop() {
    let site = site("");
    let path = site.path().join("notify");
    let manager = ServiceManager(UnixDatagram::bind(&path).expect("the socket binds"));
    manager.0.set_read_timeout(Some(LIMIT)).expect("the option is set");
    let mut daemon = Daemon::start_with(site.path(), |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "100000");
    });
    assert_eq!(manager.next_notification(), ["READY=1"]);
    // The keep-alive is periodic.
    for _ in 0..3 {
        while manager.receive() != ["WATCHDOG=1"] {}
    }

    for config in ["[boot]\ntries = 3\n", "no configuration"] {
        std::fs::write(site.path().join("volboot.toml"), config).expect("the file is written");
        daemon.hang_up();
        let reloading = manager.next_notification();
        assert_eq!(reloading[0], "RELOADING=1");
        let time = reloading[1].strip_prefix("MONOTONIC_USEC=").expect("the time");
        assert!(time.parse::<u64>().is_ok_and(|time| time > 0), "{time}");
        assert_eq!(manager.next_notification(), ["READY=1"]);
    }

    daemon.terminate();
    assert_eq!(manager.next_notification(), ["STOPPING=1"]);
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn no_keep_alive_without_a_watchdog() {
    let site = site("");
    let path = site.path().join("notify");
    let manager = ServiceManager(UnixDatagram::bind(&path).expect("the socket binds"));
    manager.0.set_read_timeout(Some(LIMIT)).expect("the option is set");
    let mut daemon = Daemon::start_with(site.path(), |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    daemon.stop();
    assert!(manager.receive().contains(&"READY=1".to_owned()));
    assert!(manager.receive().contains(&"STOPPING=1".to_owned()));
}
