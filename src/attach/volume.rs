//! One volume of one node, driven to where it should be: the calls to Cinder and what is written down between them.
//!
//! ```text
//!   list ─► intent written ─► reserve ─► id written ─► «unanswered» written ─► export ─► complete ─► all written
//! ```
//!
//! Each step can be the last one before a crash, and each is written so that whoever comes next knows what may have
//! happened in Cinder. On later boots it begins at «unanswered». Who works here holds the volume's lock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::RwLock;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::SLOW;
use super::breaker::{Breaker, Scope};
use super::obstacle::{Trouble, refusal, usable};
use crate::cinder::{self, Cinder, CinderError};
use crate::model::{Attachment, AttachmentState, Connector, Properties};
use crate::store::Attachments;

/// How often a resolution begins anew because what it found was gone in the next moment.
const ROUNDS: usize = 4;
/// How long a creation that was not answered may still happen.
const MAY_STILL_COME: Duration = Duration::from_secs(120);

/// A volume that a node is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) node: Uuid,
    pub(super) volume: String,
    pub(super) target: Uuid,
    pub(super) read_only: bool,
    pub(super) connector: Connector,
}

/// A volume that a node has: by which record, and how it is reached.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) record: Uuid,
    pub(super) connection: Properties,
}

/// What everybody needs who works on volumes. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Worker {
    pub(super) cinder: Cinder,
    pub(super) records: Attachments,
    pub(super) breaker: Arc<Breaker>,
    /// Who creates an attachment shares this; who looks for one that somebody failed to write down has it alone, lest
    /// it takes another node's for its own.
    pub(super) reserving: Arc<RwLock<()>>,
    /// When Cinder was last heard of in this piece of work.
    pub(super) heard: Arc<Mutex<Instant>>,
}

impl Worker {
    /// Attaches a volume if it is not, and asks where it is in any case.
    pub(super) async fn resolve(&self, want: &Want) -> Result<Held, Trouble> {
        for _ in 0..ROUNDS {
            let record = match self.records.get(want.node, &want.volume).await? {
                None => match self.create(want).await? {
                    Some(record) => record,
                    None => continue,
                },
                Some(record) if record.state == AttachmentState::Detaching => {
                    self.detach(&record).await?;
                    continue;
                }
                // The storage is to forget the old name before it hears of the new one.
                Some(record)
                    if record.initiator.as_ref().is_some_and(|old| *old != want.connector.initiator) =>
                {
                    self.records.change(&record, |record| record.state = AttachmentState::Detaching).await?;
                    continue;
                }
                // Left by who was broken off before the id was known.
                Some(record) if record.cinder_id.is_none() => self.recover(&record, want).await?,
                Some(record) => record,
            };
            // Held until it is known whether the backend answers.
            let _probe = match self.kind(&record).await? {
                Some(kind) => self.breaker.ask(&Scope::Backend(kind)).map_err(Trouble::Away)?,
                None => None,
            };
            if let Some(connection) = self.export(&record, &want.connector).await? {
                return Ok(Held { record: record.id, connection });
            }
            self.forget_removed(&record).await?;
        }
        Err(Trouble::Passing("the node's volumes were changed while it asked for them".into()))
    }

    /// Cinder knows no such attachment. Either somebody removed it: then the record goes too. Or this is not the
    /// project, or the Cinder, that it is in, where nobody knows the volume either: then the record stays, lest our own
    /// attachment is another's when the configuration is mended.
    pub(super) async fn forget_removed(&self, record: &Attachment) -> Result<(), Trouble> {
        let volume = &record.volume;
        self.told(self.cinder.volume(volume).await).map_err(|error| refusal(volume, error))?;
        Ok(self.records.forget(record).await?)
    }

    /// Nobody boots from what was known of a volume: Cinder said no. What an earlier export left open stays open.
    pub(super) async fn disown(&self, record: &Attachment, unanswered: bool) -> Result<(), Trouble> {
        let written = self.records.change(record, |record| {
            record.unanswered = unanswered;
            record.connection = None;
            record.learnt_at = None;
        });
        written.await?;
        Ok(())
    }

    /// The volume's type, if it is known, or if it matters now.
    async fn kind(&self, record: &Attachment) -> Result<Option<String>, Trouble> {
        if record.volume_type.is_some() || !self.breaker.some_backend_is_away() {
            return Ok(record.volume_type.clone());
        }
        let kind = match self.told(self.cinder.volume(&record.volume).await) {
            Ok(volume) => volume.volume_type,
            Err(CinderError::Away(_)) => None,
            Err(said_no) => {
                self.disown(record, record.unanswered).await?;
                return Err(refusal(&record.volume, said_no));
            }
        };
        if let Some(kind) = &kind {
            self.learn_kind(record, kind).await;
        }
        Ok(kind)
    }

    pub(super) async fn learn_kind(&self, record: &Attachment, kind: &str) {
        let known = self.records.change(record, |record| record.volume_type = Some(kind.to_owned()));
        if let Err(error) = known.await {
            tracing::error!(error = %error, "the store failed to keep a volume's type");
        }
    }

    /// Writes down that an attachment will be created and which the volume had before it, and creates it. `None`: the
    /// records say something else by now.
    async fn create(&self, want: &Want) -> Result<Option<Attachment>, Trouble> {
        let _shared = self.reserving.read().await;
        let others = self.told(self.cinder.attachments_of(&want.volume).await);
        let others = others.map_err(|error| refusal(&want.volume, error))?;
        let others = others.into_iter().map(|attachment| attachment.id).collect();
        let now = Timestamp::now();
        let record = Attachment::intended(want.node, &want.volume, want.target, others, now);
        if !self.records.intend(&record).await? {
            return Ok(None);
        }
        match self.told(self.cinder.reserve(&want.volume, want.read_only).await) {
            Ok(id) => self.identified(&record, id).await.map(Some),
            Err(CinderError::Away(reason)) => Err(Trouble::Away(reason)),
            // None was created: a reserved one that turns up later is another's.
            Err(said_no) => {
                self.records.forget(&record).await?;
                Err(self.explain(&want.volume, said_no).await)
            }
        }
    }

    /// Writes an attachment's id down.
    async fn identified(&self, record: &Attachment, id: String) -> Result<Attachment, Trouble> {
        let written = self.records.change(record, |record| {
            record.cinder_id = Some(id.clone());
            if record.state == AttachmentState::Intended {
                record.state = AttachmentState::Reserved;
            }
        });
        still_wanted(written.await?)
    }

    /// Somebody set out to create the attachment, and did not write down what came of it: takes the one that came of
    /// it, or creates it.
    async fn recover(&self, record: &Attachment, want: &Want) -> Result<Attachment, Trouble> {
        let _alone = self.reserving.write().await;
        if let Some(id) = self.left_behind(record).await? {
            return self.identified(record, id).await;
        }
        // It may still come. Where there can be one only, Cinder lets one of the two in; else it has to be waited for.
        let volume = self.told(self.cinder.volume(&want.volume).await);
        if may_still_come(record) && volume.is_ok_and(|volume| volume.multiattach) {
            let volume = &want.volume;
            return Err(Trouble::Passing(format!(
                "volume {volume} may be about to be attached by an earlier try"
            )));
        }
        let now = Timestamp::now();
        let written = self.records.change(record, |record| record.begun_at = now);
        let record = still_wanted(written.await?)?;
        match self.told(self.cinder.reserve(&want.volume, want.read_only).await) {
            Ok(id) => self.identified(&record, id).await,
            Err(CinderError::Away(reason)) => Err(Trouble::Away(reason)),
            Err(said_no) => {
                if let Some(id) = self.left_behind(&record).await? {
                    return self.identified(&record, id).await;
                }
                self.records.forget(&record).await?;
                Err(self.explain(&want.volume, said_no).await)
            }
        }
    }

    /// The same when nobody asks for the volume. Returns whether nothing is left to be done.
    pub(super) async fn adopt(&self, record: &Attachment) -> Result<bool, Trouble> {
        let _alone = self.reserving.write().await;
        if let Some(id) = self.left_behind(record).await? {
            tracing::info!(node = %record.node, volume = %record.volume, attachment = %id, "attachment adopted");
            return self.identified(record, id).await.map(|_| true);
        }
        if may_still_come(record) {
            return Ok(false);
        }
        self.records.forget(record).await?;
        Ok(true)
    }

    /// The id of the one attachment that can only be what a broken-off creation left: reserved, without instance and
    /// connection, not there when it was begun, and no other node's. To be asked by one at a time.
    async fn left_behind(&self, record: &Attachment) -> Result<Option<String>, Trouble> {
        let all = match self.told(self.cinder.attachments_of(&record.volume).await) {
            Err(CinderError::Missing(_)) => return Ok(None),
            all => all.map_err(|error| refusal(&record.volume, error))?,
        };
        let known = self.records.of_volume(&record.volume).await?;
        let mut ours = all.into_iter().filter(|attachment| {
            attachment.status == "reserved"
                && attachment.instance.is_none()
                && attachment.connection.is_none()
                && !record.others.contains(&attachment.id)
                && known.iter().all(|known| known.cinder_id.as_ref() != Some(&attachment.id))
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
        let before = record.unanswered;
        let written = self.records.change(record, |record| {
            record.unanswered = true;
            record.connector = Some(connector.clone());
        });
        let record = still_wanted(written.await?)?;
        let Some(id) = record.cinder_id.as_deref() else { return Ok(None) };
        let attachment = match self.exported(&record, id, connector).await {
            Ok(attachment) => attachment,
            Err(CinderError::Missing(_)) => return self.disown(&record, before).await.map(|()| None),
            Err(CinderError::Away(reason)) => return Err(Trouble::Away(reason)),
            Err(error) => return Err(self.said_no(&record, before, error).await?),
        };
        let connection = match usable(&record.volume, attachment.connection) {
            Ok(connection) => connection,
            Err(reason) => {
                // Nothing here will ever boot from it: it is not to be held.
                self.records.change(&record, |record| record.state = AttachmentState::Detaching).await?;
                return Err(Trouble::Refused(reason));
            }
        };
        let now = Timestamp::now();
        let written = self.records.change(&record, |record| {
            record.connection = Some(connection.clone());
            record.initiator = Some(connector.initiator.clone());
            record.learnt_at = Some(now);
        });
        let record = still_wanted(written.await?)?;
        if let Some(kind) = &record.volume_type {
            self.breaker.answered(&Scope::Backend(kind.clone()));
        }
        match self.told(self.cinder.complete(id).await) {
            Ok(()) => {}
            Err(CinderError::Missing(_)) => return self.disown(&record, before).await.map(|()| None),
            Err(CinderError::Away(reason)) => return Err(Trouble::Away(reason)),
            Err(error) => return Err(self.said_no(&record, before, error).await?),
        }
        let written = self.records.change(&record, |record| {
            record.unanswered = false;
            if record.state == AttachmentState::Reserved {
                record.state = AttachmentState::Attached;
            }
        });
        still_wanted(written.await?)?;
        Ok(Some(connection))
    }

    /// The call itself. While it takes its time, it is found out who does not answer; it goes on meanwhile.
    async fn exported(
        &self,
        record: &Attachment,
        id: &str,
        connector: &Connector,
    ) -> Result<cinder::Attachment, CinderError> {
        let mut call = std::pin::pin!(self.cinder.export(id, connector));
        let in_time = timeout(SLOW, &mut call).await;
        let answer = if let Ok(answer) = in_time {
            answer
        } else {
            self.suspect(record, &format!("no answer within {} s", SLOW.as_secs())).await;
            call.await
        };
        match &answer {
            Err(CinderError::Away(reason)) => self.suspect(record, reason).await,
            _ => self.answered(),
        }
        answer
    }

    /// Cinder said no to what the node had; and why.
    async fn said_no(
        &self,
        record: &Attachment,
        unanswered: bool,
        error: CinderError,
    ) -> Result<Trouble, Trouble> {
        self.disown(record, unanswered).await?;
        Ok(self.explain(&record.volume, error).await)
    }

    /// Lets a volume go, and forgets it when Cinder has.
    pub(super) async fn detach(&self, record: &Attachment) -> Result<(), Trouble> {
        let not_yet = |reason: &dyn std::fmt::Display| {
            format!("volume {} cannot be detached yet: {reason}", record.volume)
        };
        let id = if record.cinder_id.is_some() {
            record.cinder_id.clone()
        } else {
            let _alone = self.reserving.write().await;
            let found = self.left_behind(record).await?;
            if found.is_none() && may_still_come(record) {
                return Err(Trouble::Passing(not_yet(&"its creation was not answered, and may still come")));
            }
            found
        };
        if let Some(id) = id {
            let _probe = match &record.volume_type {
                Some(kind) => {
                    let probe = self.breaker.ask(&Scope::Backend(kind.clone()));
                    probe.map_err(|reason| Trouble::Away(not_yet(&reason)))?
                }
                None => None,
            };
            match self.cinder.delete(&id).await {
                // Asking a backend may fail for its own reasons: that says nothing about Cinder.
                Err(CinderError::Away(reason)) => {
                    self.suspect(record, &reason).await;
                    return Err(Trouble::Away(not_yet(&reason)));
                }
                answer => match self.told(answer) {
                    Ok(()) | Err(CinderError::Missing(_)) => {}
                    Err(error) => return Err(Trouble::Passing(not_yet(&error))),
                },
            }
            tracing::info!(node = %record.node, volume = %record.volume, attachment = %id, "volume detached");
        }
        Ok(self.records.forget(record).await?)
    }
}

/// Whether a creation that was not answered may happen yet.
fn may_still_come(record: &Attachment) -> bool {
    Timestamp::now().duration_since(record.begun_at).unsigned_abs() < MAY_STILL_COME
}

/// A record that was changed: unless it is gone, or to be detached, meanwhile.
fn still_wanted(record: Option<Attachment>) -> Result<Attachment, Trouble> {
    record
        .filter(|record| record.state != AttachmentState::Detaching)
        .ok_or_else(|| Trouble::Passing("the node's volumes were changed while it asked for them".into()))
}
