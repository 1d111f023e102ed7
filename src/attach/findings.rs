//! [`ExportFindings`]: remembers what the last export of a volume showed, if no machine can boot from the volume.
//!
//! | finding | boot requests | checks and previews |
//! |---|---|---|
//! | *unbootable*: the connection cannot be booted, such as NVMe-oF | are refused | say so |
//! | *failed*: Cinder returned 500 at the export | export again | say so |
//!
//! Only an export shows a volume's connection, so volboot has to attach an unbootable volume once, and detaches it. Without
//! the memory, every further boot request would attach and detach the volume again.
//!
//! A finding is void once Cinder may return another connection:
//!
//! * The operator changed the node, a volume connector or a volume target ([`RecordVersions`]).
//! * The volume was changed in Cinder since its detachment ([`VolumeVersion`]).
//! * [`MAX_AGE`] is over: a backend's configuration may change without a trace in Cinder.
//!
//! The memory is the process's, not a record. The attachment's record ends with the attachment, and a restart costs one
//! more export.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use super::error::Outage;
use super::request::RecordVersions;
use crate::cinder::CinderVolume;

/// How long a finding holds at most.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);

/// The last finding of each volume, by node and volume.
#[derive(Debug, Default)]
pub(super) struct ExportFindings(Mutex<HashMap<(Uuid, String), Finding>>);

/// What an export showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FindingKind {
    Unbootable,
    Failed,
}

/// Why no machine can boot from a volume, and what that depends on.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    kind: FindingKind,
    reason: String,
    found_at: Timestamp,
    age: Instant,
    records: RecordVersions,
    /// The volume after its detachment. `None`: the node's attachment still exists, so the volume has not changed.
    volume: Option<VolumeVersion>,
}

/// What changes with a volume: the time of its last change in Cinder, and the type, which stands for the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
struct VolumeVersion {
    updated_at: Option<String>,
    volume_type: Option<String>,
}

impl VolumeVersion {
    fn of(volume: &CinderVolume) -> Self {
        Self { updated_at: volume.updated_at.clone(), volume_type: volume.volume_type.clone() }
    }
}

impl Finding {
    /// Whether the volume is still the one of the finding.
    pub(super) fn applies_to(&self, volume: &CinderVolume) -> bool {
        self.volume.as_ref().is_none_or(|version| *version == VolumeVersion::of(volume))
    }

    /// The reason, with the time of the finding and the time of the next export.
    pub(super) fn reason(&self) -> String {
        let (reason, found_at, minutes) = (&self.reason, self.found_at, MAX_AGE.as_secs() / 60);
        format!("{reason} (found at {found_at:.0}; Cinder is asked again after {minutes} minutes)")
    }
}

impl ExportFindings {
    /// Remembers a connection that cannot be booted. The attachment still exists.
    pub(super) fn remember_unbootable(
        &self,
        node: Uuid,
        volume: &str,
        records: &RecordVersions,
        reason: &str,
    ) {
        self.remember(FindingKind::Unbootable, node, volume, records, reason);
    }

    /// Remembers that Cinder failed at the export.
    pub(super) fn remember_failed(&self, node: Uuid, volume: &str, records: &RecordVersions, reason: &str) {
        self.remember(FindingKind::Failed, node, volume, records, reason);
    }

    fn remember(&self, kind: FindingKind, node: Uuid, volume: &str, records: &RecordVersions, reason: &str) {
        let finding = Finding {
            kind,
            reason: reason.to_owned(),
            found_at: Timestamp::now(),
            age: Instant::now(),
            records: records.clone(),
            volume: None,
        };
        self.0.lock().insert((node, volume.to_owned()), finding);
    }

    /// Forgets the volume, after an export with a usable connection.
    pub(super) fn forget(&self, node: Uuid, volume: &str) {
        self.0.lock().remove(&(node, volume.to_owned()));
    }

    /// Forgets all volumes, for a new Cinder configuration.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Whether the detachment of the volume has to be followed by [`note_detachment`](Self::note_detachment).
    pub(super) fn needs_version(&self, node: Uuid, volume: &str) -> bool {
        let findings = self.0.lock();
        let finding = findings.get(&(node, volume.to_owned()));
        finding.is_some_and(|finding| finding.kind == FindingKind::Unbootable)
    }

    /// Notes the volume's version after the detachment. If Cinder did not show the volume, the finding is void: a later
    /// change could not be seen.
    pub(super) fn note_detachment(&self, node: Uuid, volume: &str, details: Option<&CinderVolume>) {
        let Some(details) = details else { return self.forget(node, volume) };
        if let Some(finding) = self.0.lock().get_mut(&(node, volume.to_owned())) {
            finding.volume = Some(VolumeVersion::of(details));
        }
    }

    /// The finding of an unbootable connection for these records. Whether it [applies](Finding::applies_to) to the
    /// volume takes a look at Cinder.
    pub(super) fn recall_unbootable(
        &self,
        node: Uuid,
        volume: &str,
        records: &RecordVersions,
    ) -> Option<Finding> {
        self.recall(FindingKind::Unbootable, node, volume, records)
    }

    /// Why the last export for these records failed. This comes before the outage of the backend: the failure may be the
    /// node's own, such as a missing connector property, and remain after the outage.
    pub(super) fn recall_failed(&self, node: Uuid, volume: &str, records: &RecordVersions) -> Option<Outage> {
        let finding = self.recall(FindingKind::Failed, node, volume, records);
        finding.map(|finding| Outage::Export(finding.reason))
    }

    fn recall(
        &self,
        kind: FindingKind,
        node: Uuid,
        volume: &str,
        records: &RecordVersions,
    ) -> Option<Finding> {
        let findings = self.0.lock();
        let finding = findings.get(&(node, volume.to_owned()))?;
        let holds = finding.kind == kind && finding.age.elapsed() < MAX_AGE && finding.records == *records;
        holds.then(|| finding.clone())
    }

    /// Evicts findings that are too old.
    pub(super) fn evict_old(&self) {
        let mut findings = self.0.lock();
        findings.retain(|_, finding| finding.age.elapsed() < MAX_AGE);
        let remaining = findings.len();
        findings.shrink_to(2 * remaining);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::{Node, StorageInterface, VolumeConnector, VolumeTarget};

    const NODE: Uuid = Uuid::nil();
    const REASON: &str = "volume root has transport \"nvmeof\"; only iscsi can be booted";

    fn volume(updated_at: &str, volume_type: &str) -> CinderVolume {
        let volume = json!({"id": "root", "status": "available", "updated_at": updated_at, "volume_type": volume_type});
        serde_json::from_value(volume).expect("a volume")
    }

    /// The records of a node: the node itself, a connector and a target.
    struct TestRecords(Node, VolumeConnector, VolumeTarget);

    impl TestRecords {
        fn new() -> Self {
            let now = Timestamp::UNIX_EPOCH;
            let [connector, target] = [1, 2].map(Uuid::from_u128);
            Self(
                Node::new(NODE, "manual-management", StorageInterface::Cinder, now),
                VolumeConnector::new(connector, NODE, "iqn", "iqn.2017-08.org.openstack.web-1", now),
                VolumeTarget::new(target, NODE, 0, "root", now),
            )
        }

        fn versions(&self) -> RecordVersions {
            RecordVersions::of(&self.0, std::slice::from_ref(&self.1), std::slice::from_ref(&self.2))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_finding_holds_for_five_minutes() {
        let (findings, records) = (ExportFindings::default(), TestRecords::new().versions());
        findings.remember_unbootable(NODE, "root", &records, REASON);
        let last_moment = Duration::from_millis(1);
        tokio::time::advance(MAX_AGE.saturating_sub(last_moment)).await;
        findings.evict_old();
        let finding = findings.recall_unbootable(NODE, "root", &records).expect("the finding holds");
        assert!(finding.reason().starts_with(&format!("{REASON} (found at ")), "{}", finding.reason());
        assert!(findings.recall_unbootable(NODE, "data", &records).is_none());
        tokio::time::advance(last_moment).await;
        assert!(findings.recall_unbootable(NODE, "root", &records).is_none());
        assert!(findings.needs_version(NODE, "root"));
        findings.evict_old();
        assert!(!findings.needs_version(NODE, "root"));
    }

    #[tokio::test]
    async fn a_change_of_any_record_voids_a_finding() {
        let (findings, records) = (ExportFindings::default(), TestRecords::new());
        findings.remember_unbootable(NODE, "root", &records.versions(), REASON);
        assert!(findings.recall_unbootable(NODE, "root", &TestRecords::new().versions()).is_some());
        let now = Some(Timestamp::now());
        let changes: [fn(&mut TestRecords, Option<Timestamp>); 6] = [
            |records, now| records.0.updated_at = now,
            |records, now| records.1.updated_at = now,
            |records, now| records.2.updated_at = now,
            |records, _| records.1.uuid = Uuid::from_u128(3),
            |records, _| records.2.uuid = Uuid::from_u128(3),
            |records, now| records.2.created_at = now.unwrap_or_default(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut later = TestRecords::new();
            change(&mut later, now);
            assert!(findings.recall_unbootable(NODE, "root", &later.versions()).is_none(), "change {at}");
        }
        let without_connector = RecordVersions::of(&records.0, &[], std::slice::from_ref(&records.2));
        assert!(findings.recall_unbootable(NODE, "root", &without_connector).is_none());
    }

    #[tokio::test]
    async fn a_change_of_the_volume_after_its_detachment_voids_a_finding() {
        let (findings, records) = (ExportFindings::default(), TestRecords::new().versions());
        let applies = |updated_at, volume_type| {
            let finding = findings.recall_unbootable(NODE, "root", &records).expect("the finding holds");
            finding.applies_to(&volume(updated_at, volume_type))
        };
        findings.remember_unbootable(NODE, "root", &records, REASON);
        // The attachment and its deletion change the volume too.
        assert!(applies("10:00:00", "nvme") && applies("10:00:01", "nvme"));
        findings.note_detachment(NODE, "root", Some(&volume("10:00:01", "nvme")));
        assert!(applies("10:00:01", "nvme"));
        assert!(!applies("10:00:02", "nvme") && !applies("10:00:01", "chap"));
        findings.note_detachment(NODE, "root", None);
        assert!(!findings.needs_version(NODE, "root"));
    }

    #[tokio::test]
    async fn a_failed_export_concerns_checks_alone() {
        let (findings, records) = (ExportFindings::default(), TestRecords::new().versions());
        findings.remember_failed(NODE, "root", &records, "cannot export volume root");
        assert_eq!(
            findings.recall_failed(NODE, "root", &records),
            Some(Outage::Export("cannot export volume root".into()))
        );
        assert!(findings.recall_unbootable(NODE, "root", &records).is_none());
        assert!(!findings.needs_version(NODE, "root"));
        findings.remember_unbootable(NODE, "root", &records, REASON);
        assert_eq!(findings.recall_failed(NODE, "root", &records), None);
        findings.forget(NODE, "root");
        assert!(findings.recall_unbootable(NODE, "root", &records).is_none());
    }
}
