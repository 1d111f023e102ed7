//! Who does not answer, and since when: what each call tells the breaker.

use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::SLOW;
use super::breaker::Scope;
use super::volume::Worker;
use crate::cinder::{self, CinderError};
use crate::model::Attachment;

/// How long finding out *what* does not answer may take.
const DIAGNOSIS: Duration = Duration::from_secs(2);

impl Worker {
    /// Something that a backend has to do was not answered, or not yet: finds out whether Cinder is away or only what
    /// is behind it.
    pub(super) async fn suspect(&self, record: &Attachment, reason: &str) {
        match timeout(DIAGNOSIS, self.cinder.volume(&record.volume)).await {
            Ok(Ok(cinder::Volume { volume_type: Some(kind), .. })) => {
                self.breaker.answered(&Scope::Endpoint);
                self.learn_kind(record, &kind).await;
                self.breaker.failed_for(&kind, &record.volume, reason);
            }
            Ok(Ok(_)) => self.breaker.answered(&Scope::Endpoint),
            Ok(Err(CinderError::Missing(_) | CinderError::Refused { .. })) => {
                self.breaker.answered(&Scope::Endpoint);
                // It said no to the volume itself. What was not answered stays open.
                if let Err(trouble) = self.disown(record, record.unanswered).await {
                    tracing::error!(?trouble, "the store failed to forget a connection that is true no more");
                }
            }
            Ok(Err(CinderError::Away(reason))) => self.breaker.failed(&reason),
            Err(_) => self.breaker.silent(reason),
        }
    }

    /// Tells the breaker whether Cinder answered.
    pub(super) fn told<T>(&self, answer: Result<T, CinderError>) -> Result<T, CinderError> {
        match &answer {
            Err(CinderError::Away(reason)) => self.breaker.failed(reason),
            _ => self.answered(),
        }
        answer
    }

    pub(super) fn answered(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.breaker.answered(&Scope::Endpoint);
    }

    /// Waits until Cinder has been silent in this piece of work for [`SLOW`]: a chain of calls may take longer.
    pub(super) async fn silence(&self) {
        loop {
            let until = *self.heard.lock().unwrap_or_else(PoisonError::into_inner) + SLOW;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}
