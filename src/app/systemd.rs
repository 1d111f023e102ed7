//! Notifies systemd (sd_notify(3)) of readiness, reloads, the shutdown, and the watchdog's interval.
//!
//! Without a service manager (`NOTIFY_SOCKET` is not set) every notification is a no-op.

use sd_notify::NotifyState::{self, ExtendTimeoutUsec, Ready, Reloading, Status, Stopping, Watchdog};
use tokio_util::sync::CancellationToken;

/// The time-out for the next progress report of the integrity check, in microseconds: 30 seconds.
const CHECK_TIMEOUT: u32 = 30_000_000;

/// All listeners serve; also ends a successful reload.
pub(super) fn notify_ready() {
    notify(&[Ready, Status("serving")]);
}

/// The integrity check of the store has reached this percentage. Each call extends the start time-out.
pub(super) fn notify_checking(percent: u8) {
    let status = format!("checking the store: {percent} %");
    notify(&[Status(&status), ExtendTimeoutUsec(CHECK_TIMEOUT)]);
}

/// A reload starts; [`notify_ready`] or [`notify_reload_failed`] ends it.
pub(super) fn notify_reloading() {
    // `Type=notify-reload` needs the time, to tell this reload from an earlier one.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[Reloading, now]),
        Err(_) => notify(&[Reloading]),
    }
}

/// The reload failed, and the previous configuration stays in effect.
pub(super) fn notify_reload_failed() {
    notify(&[Ready, Status("serving with the previous configuration: the reload failed, see the log")]);
}

/// The graceful shutdown starts.
pub(super) fn notify_stopping() {
    notify(&[Stopping, Status("waiting for running transfers and requests")]);
}

/// Sends the watchdog's keep-alive at half of the required interval, if the service manager has a watchdog.
///
/// Runs on the runtime that serves the listeners, so a blocked runtime is detected.
pub(super) async fn run_watchdog(stop: CancellationToken) {
    let Some(timeout) = sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero()) else { return };
    let mut interval = tokio::time::interval(timeout / 2);
    let keep_alive = async {
        loop {
            interval.tick().await;
            notify(&[Watchdog]);
        }
    };
    stop.run_until_cancelled(keep_alive).await;
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = %error, "cannot notify the service manager");
    }
}
