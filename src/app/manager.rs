//! What the service manager is told (sd_notify(3)): that volboot is ready, reloads, stops, and is alive.
//!
//! Where there is none (`NOTIFY_SOCKET` is not set), nothing is told and nothing is missed.

use sd_notify::NotifyState::{self, Ready, Reloading, Status, Stopping, Watchdog};
use tokio_util::sync::CancellationToken;

/// All doors are open.
pub(super) fn ready() {
    tell(&[Ready, Status("serving")]);
}

/// The configuration is being read again; [`ready`] or [`kept`] tells the end of it.
pub(super) fn reloading() {
    // `Type=notify-reload` takes only a reload for its own that began after it had asked, and so asks for the time.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[Reloading, now]),
        Err(_) => tell(&[Reloading]),
    }
}

/// The new configuration cannot be used; what was there before goes on.
pub(super) fn kept() {
    tell(&[
        Ready,
        Status("serving with the previous configuration: the log tells what is wrong with the new one"),
    ]);
}

/// Newcomers are refused, what runs may end.
pub(super) fn stopping() {
    tell(&[Stopping, Status("waiting for running transfers and requests")]);
}

/// If the service manager wants to hear that volboot is alive, tells it twice as often as asked, from the runtime
/// that serves the doors.
pub(super) async fn keep_alive(stop: CancellationToken) {
    let Some(within) = sd_notify::watchdog_enabled().filter(|within| !within.is_zero()) else { return };
    let mut beats = tokio::time::interval(within / 2);
    let pings = async {
        loop {
            beats.tick().await;
            tell(&[Watchdog]);
        }
    };
    stop.run_until_cancelled(pings).await;
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = %error, "the service manager cannot be told how things are");
    }
}
