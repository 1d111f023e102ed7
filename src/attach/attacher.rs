//! [`Attacher`]: the Cinder calls for one volume of one node, and the records written between them.
//!
//! ```text
//!   list ─► intent recorded ─► reserve ─► id recorded ─► pending export recorded ─► export ─► complete ─► recorded
//! ```
//!
//! Where the node already has the volume through an attachment of another client, that one is recorded in place of the
//! first four steps.
//!
//! A crash can follow any step. Each record therefore states what may have happened in Cinder, so that a later boot
//! or the reconciler can continue. Later boots start at «pending export recorded». The first half is in `creation`,
//! the second in `export`, the end in `detachment`, and the writes are in `steps`.

use std::sync::Arc;

use super::borrowed::{self, is_of_another_instance};
use super::breaker::{CircuitProbe, CircuitScope};
use super::claims::{Claims, HeldClaim};
use super::creation::Creation;
use super::error::{AttachError, Outage, changed_during_request, classify};
use super::export::{Export, ExportOutcome, ExportedVolume, export, select_connector};
use super::findings::ExportFindings;
use super::monitored_cinder::MonitoredCinder;
use super::record_ages::{RecordAges, Windows};
use super::repeat::find_resolved;
use super::request::{DesiredAttachment, RecordVersions, ResolutionContext};
use super::steps;
use crate::cinder::CinderError;
use crate::model::{Attachment, AttachmentState, Ownership};
use crate::store::Attachments;

/// How often an attacher starts again after the record or the attachment disappeared.
const MAX_ATTEMPTS: usize = 4;

/// Attaches or detaches one volume, under its claim: each write and each call of Cinder requires the claim.
#[derive(Debug)]
pub(super) struct Attacher {
    pub(super) cinder: MonitoredCinder,
    pub(super) records: Attachments,
    pub(super) shared: AttachContext,
}

/// What all attachers of this process share.
#[derive(Debug)]
pub(super) struct AttachContext {
    pub(super) claims: Arc<Claims>,
    pub(super) findings: Arc<ExportFindings>,
    pub(super) record_ages: Arc<RecordAges>,
    pub(super) windows: Windows,
}

impl Attacher {
    /// An attacher for the holder of a claim.
    pub(super) fn new(
        cinder: &MonitoredCinder,
        records: &Attachments,
        claim: HeldClaim,
        shared: AttachContext,
    ) -> Self {
        let claim = Arc::new(claim);
        Self { cinder: cinder.fenced(&claim), records: records.fenced(claim.id()), shared }
    }

    /// Whether the claim is lost: a result is then no result of Cinder.
    pub(super) fn has_lost_claim(&self) -> bool {
        self.cinder.has_lost_claim()
    }

    /// The creation of attachments of a volume, under a claim of its own.
    pub(super) async fn claim_creation(&self, volume: &str) -> Result<Creation<'_>, AttachError> {
        let claim = self.cinder.clock().stop_during(self.shared.claims.claim_volume(volume)).await?;
        let claim = Arc::new(claim);
        Ok(Creation {
            cinder: self.cinder.fenced(&claim),
            records: self.records.fenced(claim.id()),
            record_ages: &self.shared.record_ages,
            late_request: self.shared.windows.late_request,
        })
    }

    /// Attaches a volume unless it is attached, and has it exported in any case. A volume whose connection is known to
    /// be unbootable is not attached again; `context` is of the request.
    pub(super) async fn attach(
        &self,
        desired: &DesiredAttachment,
        context: &ResolutionContext,
    ) -> Result<ExportedVolume, AttachError> {
        let ResolutionContext { versions, attempt } = context;
        for _ in 0..MAX_ATTEMPTS {
            let record = match self.records.get(desired.node, &desired.volume).await? {
                None => {
                    self.check_bootable(desired, versions).await?;
                    match self.claim_creation(&desired.volume).await?.create(desired).await? {
                        Some(record) => record,
                        None => continue,
                    }
                }
                Some(record) if record.state == AttachmentState::Detaching => {
                    self.check_bootable(desired, versions).await?;
                    self.detach(&record).await?;
                    continue;
                }
                Some(record) if is_of_another_instance(&record, &desired.identity) => {
                    steps::mark_detaching(&self.records, &record).await?;
                    continue;
                }
                // The backend has to drop the old initiator name before it admits the new name. The attachment of
                // another client stays, and is exported to the new name too.
                Some(record)
                    if record.ownership == Ownership::Own
                        && record
                            .initiator
                            .as_ref()
                            .is_some_and(|old| *old != desired.connector.initiator) =>
                {
                    steps::mark_detaching(&self.records, &record).await?;
                    continue;
                }
                // The create was interrupted before the id was recorded.
                Some(record) if record.cinder_id.is_none() => {
                    let creation = self.claim_creation(&desired.volume).await?;
                    match creation.recover(&record, desired).await? {
                        Some(record) => record,
                        None => continue,
                    }
                }
                Some(record) => match self.find_resolved(&record, desired, context).await {
                    Some(resolved) => return Ok(resolved),
                    None => record,
                },
            };
            // A probe is held until the result of the export is known.
            let _probe = match self.find_volume_type(&record).await? {
                Some(volume_type) => self.try_backend(&volume_type).map_err(|outage| {
                    let failed = self.shared.findings.recall_failed(record.node, &record.volume, versions);
                    AttachError::Unavailable(failed.unwrap_or(outage))
                })?,
                None => None,
            };
            let connector = select_connector(&record, &desired.connector);
            let outcome = export(&self.cinder, &self.records, &record, &connector, attempt.as_ref()).await;
            if let Err(AttachError::Unavailable(Outage::Export(reason))) = &outcome {
                self.shared.findings.remember_failed(record.node, &record.volume, versions, reason);
            }
            match outcome? {
                ExportOutcome::Exported(Export { connection, source }) => {
                    self.shared.findings.forget(record.node, &record.volume);
                    let (record, server) = (record.id, record.server());
                    return Ok(ExportedVolume { record, server, connection, source });
                }
                ExportOutcome::Unbootable(reason) => {
                    self.shared.findings.remember_unbootable(record.node, &record.volume, versions, &reason);
                    return Err(AttachError::Refused(reason));
                }
                ExportOutcome::Gone => self.delete_stale(&record).await?,
            }
        }
        Err(changed_during_request())
    }

    /// The result of another instance for the same boot attempt.
    async fn find_resolved(
        &self,
        record: &Attachment,
        desired: &DesiredAttachment,
        context: &ResolutionContext,
    ) -> Option<ExportedVolume> {
        let AttachContext { record_ages, windows, .. } = &self.shared;
        find_resolved(record, desired, context, record_ages, windows.repeat).await
    }

    /// Refuses a volume whose connection was found unbootable, unless records or volume have changed since.
    async fn check_bootable(
        &self,
        desired: &DesiredAttachment,
        versions: &RecordVersions,
    ) -> Result<(), AttachError> {
        let volume = &desired.volume;
        let finding = self.shared.findings.recall_unbootable(desired.node, volume, versions);
        let Some(finding) = finding else { return Ok(()) };
        let details = self.cinder.volume(volume).await.map_err(|error| classify(volume, error))?;
        if finding.applies_to(&details) { Err(AttachError::Refused(finding.reason())) } else { Ok(()) }
    }

    /// Adopts the orphan of an interrupted create, or deletes the record if there is none. Returns whether the work
    /// is done.
    pub(super) async fn adopt_orphan(&self, record: &Attachment) -> Result<bool, AttachError> {
        self.claim_creation(&record.volume).await?.adopt_orphan(record).await
    }

    /// Follows up a pending export: completes the attachment if the export happened, then exports again in any case.
    /// Only a response to an export holds the current connection. The new export follows any earlier one still in
    /// progress.
    pub(super) async fn repeat_export(&self, record: &Attachment) -> Result<(), AttachError> {
        let Some(id) = &record.cinder_id else { return Ok(()) };
        let attachment = match self.cinder.attachment(id).await {
            Ok(attachment) => attachment,
            Err(error) => return self.give_up_export(record, error).await,
        };
        if record.is_borrowed() && !borrowed::is_for_server(&attachment, record) {
            return self.delete_stale(record).await;
        }
        if attachment.is_attaching() {
            // The export happened: the machine may be using the volume already.
            if let Err(error) = self.cinder.complete(self.records.check_writable()?, id).await {
                return self.give_up_export(record, error).await;
            }
        }
        let Some(connector) = &record.connector else { return Ok(()) };
        // An unavailable backend needs only one of its volumes as a probe.
        let _probe = match &record.volume_type {
            Some(volume_type) => self.try_backend(volume_type).map_err(AttachError::Unavailable)?,
            None => None,
        };
        match export(&self.cinder, &self.records, record, connector, None).await? {
            ExportOutcome::Exported(Export { .. }) => {
                self.shared.findings.forget(record.node, &record.volume);
                Ok(())
            }
            ExportOutcome::Unbootable(reason) => Err(AttachError::Refused(reason)),
            ExportOutcome::Gone => self.delete_stale(record).await,
        }
    }

    /// Looks again at an attachment whose export followed one without a response, after that request can no longer arrive.
    /// If it did arrive, the export is repeated.
    pub(super) async fn settle_export(&self, record: &Attachment) -> Result<(), AttachError> {
        let Some(id) = &record.cinder_id else { return Ok(()) };
        match self.cinder.attachment(id).await {
            Ok(attachment) if attachment.is_attaching() => {
                tracing::info!(node = %record.node, volume = %record.volume, "late export found; repeated");
                self.repeat_export(record).await?;
            }
            // The next boot request finds out what an error means.
            Ok(_) | Err(CinderError::NotFound(_) | CinderError::Refused { .. }) => {}
            Err(error) => return Err(classify(&record.volume, error)),
        }
        Ok(steps::settle_export(&self.records, record).await?)
    }

    /// On an error from Cinder other than an outage: drops the cached connection; on 404 also deletes a stale record.
    async fn give_up_export(&self, record: &Attachment, error: CinderError) -> Result<(), AttachError> {
        if let CinderError::Unavailable(_) | CinderError::Failed { .. } = error {
            return Err(classify(&record.volume, error));
        }
        steps::clear_connection(&self.records, record, record.pending_export).await?;
        match error {
            CinderError::NotFound(_) => self.delete_stale(record).await,
            error => Err(classify(&record.volume, error)),
        }
    }

    /// Deletes the record of an attachment that Cinder no longer has, provided that Cinder has the volume.
    ///
    /// Without the volume, this is the wrong project or the wrong Cinder. The record then stays: otherwise our own
    /// attachment would count as foreign after the configuration is corrected.
    async fn delete_stale(&self, record: &Attachment) -> Result<(), AttachError> {
        let volume = &record.volume;
        if record.is_borrowed() {
            // Nothing is lost: the next boot request looks for the attachment again.
            return Ok(self.records.delete(record).await?);
        }
        self.cinder.volume(volume).await.map_err(|error| classify(volume, error))?;
        Ok(self.records.delete(record).await?)
    }

    /// Lets a call through to the backend of a volume type: freely, or as the probe of an open circuit.
    pub(super) fn try_backend(&self, volume_type: &str) -> Result<Option<CircuitProbe<'_>>, Outage> {
        let probe = self.cinder.breaker().try_probe(&CircuitScope::Backend(volume_type.to_owned()));
        probe.map_err(|reason| Outage::open_circuit(volume_type, &reason))
    }

    /// The volume's type: from the record, or from Cinder if any backend circuit is open.
    async fn find_volume_type(&self, record: &Attachment) -> Result<Option<String>, AttachError> {
        if record.volume_type.is_some() || !self.cinder.breaker().has_open_backend() {
            return Ok(record.volume_type.clone());
        }
        let volume_type = match self.cinder.volume(&record.volume).await {
            Ok(volume) => volume.volume_type,
            Err(CinderError::Unavailable(_) | CinderError::Failed { .. }) => None,
            Err(refusal @ (CinderError::NotFound(_) | CinderError::Refused { .. })) => {
                steps::clear_connection(&self.records, record, record.pending_export).await?;
                return Err(classify(&record.volume, refusal));
            }
        };
        if let Some(volume_type) = &volume_type {
            steps::record_volume_type(&self.records, record, volume_type).await;
        }
        Ok(volume_type)
    }
}
