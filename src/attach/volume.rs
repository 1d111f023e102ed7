//! One volume of one node, driven to where it should be: the calls to Cinder and what is written down between them.
//!
//! ```text
//!   list ─► intent written ─► reserve ─► id written ─► «unanswered» written ─► export ─► complete ─► all written
//! ```
//!
//! Each step can be the last one before a crash, and each is written so that whoever comes next knows what may have
//! happened in Cinder. On later boots it begins at «unanswered». Who works here holds the volume's lock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use uuid::Uuid;

use super::breaker::{Breaker, Scope};
use super::obstacle::{Trouble, refusal, usable};
use crate::cinder::{self, Cinder, CinderError};
use crate::model::{Attachment, AttachmentState, Connector, Properties};
use crate::store::Attachments;

/// How often a resolution begins anew because what it found was gone in the next moment.
const ROUNDS: usize = 4;
/// How long finding out *what* does not answer may take.
const DIAGNOSIS: Duration = Duration::from_secs(2);

/// A volume that a node is to have.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) node: Uuid,
    pub(super) volume: String,
    pub(super) target: Uuid,
    pub(super) read_only: bool,
    pub(super) connector: Connector,
}

/// What everybody needs who works on volumes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) cinder: Cinder,
    pub(super) records: Attachments,
    pub(super) breaker: Arc<Breaker>,
}

impl Worker {
    /// Attaches a volume if it is not, and asks where it is in any case.
    pub(super) async fn resolve(&self, want: &Want) -> Result<Properties, Trouble> {
        for _ in 0..ROUNDS {
            let record = match self.records.get(want.node, &want.volume).await? {
                None => match self.begin(want).await? {
                    Some(record) => self.reserve(&record, want).await?,
                    None => continue,
                },
                Some(record) if record.state == AttachmentState::Detaching => {
                    self.detach(&record).await?;
                    continue;
                }
                // Left by who was broken off before the id was known.
                Some(record) if record.cinder_id.is_none() => match self.recover(&record).await? {
                    Some(record) => record,
                    None => continue,
                },
                // The storage is told to forget the old name before it hears of the new one.
                Some(record)
                    if record.initiator.as_ref().is_some_and(|old| *old != want.connector.initiator) =>
                {
                    self.detach(&record).await?;
                    continue;
                }
                Some(record) => record,
            };
            if let Some(kind) = self.kind(&record).await {
                self.breaker.check(&Scope::Backend(kind)).map_err(Trouble::Away)?;
            }
            match self.export(&record, &want.connector).await? {
                Some(connection) => return Ok(connection),
                None => self.records.forget(&record).await?,
            }
        }
        Err(Trouble::Passing(format!("volume {} is being attached and detached by others", want.volume)))
    }

    /// The volume's type, if it is known, or if it matters now.
    async fn kind(&self, record: &Attachment) -> Option<String> {
        if record.volume_type.is_some() || !self.breaker.some_backend_is_away() {
            return record.volume_type.clone();
        }
        let kind = self.told(self.cinder.volume(&record.volume).await).ok()?.volume_type?;
        self.learn_kind(record, &kind).await;
        Some(kind)
    }

    async fn learn_kind(&self, record: &Attachment, kind: &str) {
        let known = self.records.change(record, |record| record.volume_type = Some(kind.to_owned()));
        if let Err(error) = known.await {
            tracing::error!(error = %error, "the store failed to keep a volume's type");
        }
    }

    /// Writes down that an attachment will be created, and which the volume had before it.
    async fn begin(&self, want: &Want) -> Result<Option<Attachment>, Trouble> {
        let others = self.told(self.cinder.attachments_of(&want.volume).await);
        let others = others.map_err(|error| refusal(&want.volume, error))?;
        let others = others.into_iter().map(|attachment| attachment.id).collect();
        let now = Timestamp::now();
        let record = Attachment::intended(want.node, &want.volume, want.target, others, now);
        Ok(self.records.intend(&record).await?.then_some(record))
    }

    /// Creates what was just written down, and nobody has tried to create before.
    async fn reserve(&self, record: &Attachment, want: &Want) -> Result<Attachment, Trouble> {
        let answer = self.told(self.cinder.reserve(&want.volume, want.read_only).await);
        let id = match answer {
            Ok(id) => id,
            Err(CinderError::Away(reason)) => return Err(Trouble::Away(reason)),
            // None was created: a reserved one that turns up later is another's.
            Err(said_no) => {
                self.records.forget(record).await?;
                return Err(self.explain(&want.volume, said_no).await);
            }
        };
        self.identified(record, id).await
    }

    /// Writes an attachment's id down.
    pub(super) async fn identified(&self, record: &Attachment, id: String) -> Result<Attachment, Trouble> {
        let written = self.records.change(record, |record| {
            record.cinder_id = Some(id.clone());
            if record.state == AttachmentState::Intended {
                record.state = AttachmentState::Reserved;
            }
        });
        still_wanted(written.await?)
    }

    /// Looks for the attachment whose id was not written down. If there is none, begins from the beginning.
    async fn recover(&self, record: &Attachment) -> Result<Option<Attachment>, Trouble> {
        if let Some(id) = self.left_behind(record).await? {
            return self.identified(record, id).await.map(Some);
        }
        self.records.forget(record).await?;
        Ok(None)
    }

    /// The id of the one attachment that can only be what a broken-off creation left: reserved, without instance and
    /// connection, and not there when it was begun.
    pub(super) async fn left_behind(&self, record: &Attachment) -> Result<Option<String>, Trouble> {
        let all = match self.told(self.cinder.attachments_of(&record.volume).await) {
            Err(CinderError::Missing(_)) => return Ok(None),
            all => all.map_err(|error| refusal(&record.volume, error))?,
        };
        let mut ours = all.into_iter().filter(|attachment| {
            attachment.status == "reserved"
                && attachment.instance.is_none()
                && attachment.connection.is_none()
                && !record.others.contains(&attachment.id)
        });
        match (ours.next(), ours.next()) {
            (Some(one), None) => Ok(Some(one.id)),
            (Some(_), Some(_)) => {
                let volume = &record.volume;
                tracing::warn!(%volume, "several attachments could be ours: none is touched");
                Ok(None)
            }
            (None, _) => Ok(None),
        }
    }

    /// Has the volume exported and says that it is in use. `None`: Cinder has no such attachment any more.
    pub(super) async fn export(
        &self,
        record: &Attachment,
        connector: &Connector,
    ) -> Result<Option<Properties>, Trouble> {
        let written = self.records.change(record, |record| {
            record.unanswered = true;
            record.connector = Some(connector.clone());
        });
        let record = still_wanted(written.await?)?;
        let Some(id) = record.cinder_id.as_deref() else { return Ok(None) };
        let answer = match self.cinder.export(id, connector).await {
            Err(CinderError::Away(reason)) => {
                self.suspect(&record, &reason).await;
                return Err(Trouble::Away(reason));
            }
            answer => self.told(answer),
        };
        let attachment = match answer {
            Ok(attachment) => attachment,
            Err(CinderError::Missing(_)) => return Ok(None),
            Err(error) => {
                self.records.change(&record, |record| record.unanswered = false).await?;
                return Err(self.explain(&record.volume, error).await);
            }
        };
        if let Some(kind) = &record.volume_type {
            self.breaker.answered(&Scope::Backend(kind.clone()));
        }
        let connection = match usable(&record.volume, attachment.connection) {
            Ok(connection) => connection,
            Err(reason) => {
                // Nothing here will ever boot from it: it is not to be held.
                self.records.change(&record, |record| record.state = AttachmentState::Detaching).await?;
                return Err(Trouble::Refused(reason));
            }
        };
        self.complete(&record, id, connection).await
    }

    /// Says that an exported volume is in use, and writes down how it is reached.
    pub(super) async fn complete(
        &self,
        record: &Attachment,
        id: &str,
        connection: Properties,
    ) -> Result<Option<Properties>, Trouble> {
        match self.told(self.cinder.complete(id).await) {
            Ok(()) => {}
            Err(CinderError::Missing(_)) => return Ok(None),
            Err(error) => return Err(refusal(&record.volume, error)),
        }
        let now = Timestamp::now();
        let written = self.records.change(record, |record| {
            record.unanswered = false;
            record.connection = Some(connection.clone());
            record.initiator = record.connector.as_ref().map(|connector| connector.initiator.clone());
            record.learnt_at = Some(now);
            if record.state == AttachmentState::Reserved {
                record.state = AttachmentState::Attached;
            }
        });
        still_wanted(written.await?)?;
        Ok(Some(connection))
    }

    /// Lets a volume go, and forgets it when Cinder has.
    pub(super) async fn detach(&self, record: &Attachment) -> Result<(), Trouble> {
        let id = match &record.cinder_id {
            Some(id) => Some(id.clone()),
            None => self.left_behind(record).await?,
        };
        if let Some(id) = id {
            match self.cinder.delete(&id).await {
                // Asking a backend may fail for its own reasons: that says nothing about Cinder.
                Err(CinderError::Away(reason)) => {
                    return Err(Trouble::Away(format!(
                        "volume {} cannot be detached yet: {reason}",
                        record.volume
                    )));
                }
                answer => match self.told(answer) {
                    Ok(()) | Err(CinderError::Missing(_)) => {}
                    Err(error) => {
                        let volume = &record.volume;
                        return Err(Trouble::Passing(format!(
                            "volume {volume} cannot be detached yet: {error}"
                        )));
                    }
                },
            }
            tracing::info!(node = %record.node, volume = %record.volume, attachment = %id, "volume detached");
        }
        Ok(self.records.forget(record).await?)
    }

    /// An export was not answered, or not yet: finds out whether Cinder is away or only what is behind it.
    pub(super) async fn suspect(&self, record: &Attachment, reason: &str) {
        match timeout(DIAGNOSIS, self.cinder.volume(&record.volume)).await {
            Ok(Ok(cinder::Volume { volume_type: Some(kind), .. })) => {
                self.breaker.answered(&Scope::Endpoint);
                self.breaker.failed_for(&kind, &record.volume, reason);
                self.learn_kind(record, &kind).await;
            }
            Ok(Ok(_) | Err(CinderError::Missing(_) | CinderError::Refused { .. })) => {
                self.breaker.answered(&Scope::Endpoint);
            }
            Ok(Err(CinderError::Away(_))) | Err(_) => {
                self.breaker.failed(reason);
            }
        }
    }

    /// Tells the breaker whether Cinder answered.
    pub(super) fn told<T>(&self, answer: Result<T, CinderError>) -> Result<T, CinderError> {
        match &answer {
            Err(CinderError::Away(reason)) => {
                self.breaker.failed(reason);
            }
            _ => self.breaker.answered(&Scope::Endpoint),
        }
        answer
    }
}

/// A record that was changed: unless it is gone, or to be detached, meanwhile.
fn still_wanted(record: Option<Attachment>) -> Result<Attachment, Trouble> {
    record
        .filter(|record| record.state != AttachmentState::Detaching)
        .ok_or_else(|| Trouble::Passing("the node's volumes were changed while it asked for them".into()))
}
