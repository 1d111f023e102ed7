//! The one thread that takes events in: joins them, tells them to whoever follows, and writes them down.
//!
//! At most ten commits a second, however many events there are. If the file fails, what happens goes on being joined
//! and told; it is missing in the file, which is opened anew after a while.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::history::{History, HistoryError};
use super::machines::Changes;
use super::words::entry;
use super::{Shared, Told, machine};
use crate::telemetry::Event;

/// From one commit to the next, at least.
const BETWEEN_COMMITS: Duration = Duration::from_millis(100);
/// How long a file that failed is left alone.
const BEFORE_REOPENING: Duration = Duration::from_secs(30);

/// What the thread is told.
pub(super) enum Job {
    Event(Box<Event>),
    /// Write what there is, and end.
    Close(SyncSender<()>),
}

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) path: Option<PathBuf>,
    /// When the file may be opened again.
    pub(super) retry: Option<Instant>,
    /// When it was written last.
    pub(super) written: Instant,
    /// Changes that no commit has taken yet, in events.
    pub(super) unwritten: u64,
}

impl Keeper {
    pub(super) fn run(mut self, jobs: Receiver<Job>) {
        loop {
            let job = if self.unwritten == 0 {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(BETWEEN_COMMITS.saturating_sub(self.written.elapsed()))
            };
            match job {
                Ok(Job::Event(event)) => {
                    self.take(*event);
                    self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                }
                Ok(Job::Close(done)) => {
                    self.commit();
                    *self.shared.history.write().unwrap_or_else(PoisonError::into_inner) = None;
                    // Who closes may have stopped waiting.
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.commit(),
            }
            if self.unwritten > 0 && self.written.elapsed() >= BETWEEN_COMMITS {
                self.commit();
            }
        }
    }

    fn take(&mut self, event: Event) {
        let mut machines = self.shared.machines.write().unwrap_or_else(PoisonError::into_inner);
        let Some(key) = machines.take(&event) else { return };
        self.unwritten += 1;
        if self.shared.told.receiver_count() == 0 {
            return;
        }
        let Some((_, track)) = machines.get(key) else { return };
        let event = entry(event, &track.progress.hooks);
        let told = Told { machine: machine(track, Timestamp::now()), event };
        drop(machines);
        // Nobody may be left to hear it.
        let _ = self.shared.told.send(Arc::new(told));
    }

    fn commit(&mut self) {
        if self.unwritten == 0 {
            return;
        }
        let events = std::mem::take(&mut self.unwritten);
        self.written = Instant::now();
        {
            let mut machines = self.shared.machines.write().unwrap_or_else(PoisonError::into_inner);
            machines.forget(Timestamp::now());
            if self.path.is_none() {
                // Memory is all there is.
                machines.waiting.events.retain(|_, event| event.is_some());
                machines.waiting.tracks.clear();
                return;
            }
            machines.writing = std::mem::take(&mut machines.waiting);
        }
        self.reopen();
        let written = {
            let history = self.shared.history.read().unwrap_or_else(PoisonError::into_inner);
            let machines = self.shared.machines.read().unwrap_or_else(PoisonError::into_inner);
            // Readers of the machines go on; nobody else changes them but this thread.
            history.as_ref().map(|history| history.write(&machines.writing))
        };
        match written {
            Some(Ok(())) => self.shared.metrics.history_commit(),
            Some(Err(error)) => {
                tracing::error!(%error, "the history cannot be written: what happens is not kept");
                *self.shared.history.write().unwrap_or_else(PoisonError::into_inner) = None;
                self.retry = Some(Instant::now() + BEFORE_REOPENING);
                self.shared.lost.fetch_add(events, Ordering::Relaxed);
            }
            None => {
                self.shared.lost.fetch_add(events, Ordering::Relaxed);
            }
        }
        let mut machines = self.shared.machines.write().unwrap_or_else(PoisonError::into_inner);
        machines.writing = Changes::default();
    }

    /// Opens the file again, if it failed and its time has come.
    fn reopen(&mut self) {
        let (Some(path), Some(retry)) = (&self.path, self.retry) else { return };
        if Instant::now() < retry {
            return;
        }
        match History::open(path) {
            Ok(opened) => {
                self.retry = None;
                *self.shared.history.write().unwrap_or_else(PoisonError::into_inner) = Some(opened);
                tracing::info!("the history is written again");
            }
            Err(error) => {
                complain(&error);
                self.retry = Some(Instant::now() + BEFORE_REOPENING);
            }
        }
    }
}

pub(super) fn complain(error: &HistoryError) {
    tracing::error!(%error, "there is no history: machines boot all the same, but what happens is not kept");
}
