//! [`State`]: what boot requests and the reconciler share.

use std::sync::Arc;

use super::attacher::{AttachContext, Attacher};
use super::breaker::{Breaker, CircuitScope};
use super::claims::{Claims, HeldClaim};
use super::error::Outage;
use super::findings::ExportFindings;
use super::monitored_cinder::MonitoredCinder;
use super::record_ages::{RecordAges, Windows};
use crate::cinder::Cinder;
use crate::store::Attachments;

/// The records, Cinder with its circuit breaker, and the claims.
#[derive(Debug)]
pub(super) struct State {
    pub(super) records: Attachments,
    pub(super) breaker: Arc<Breaker>,
    pub(super) claims: Arc<Claims>,
    pub(super) findings: Arc<ExportFindings>,
    pub(super) record_ages: Arc<RecordAges>,
    pub(super) windows: Windows,
    /// Replaced on reload.
    cinder: parking_lot::RwLock<Option<Cinder>>,
}

impl State {
    pub(super) fn new(records: Attachments, cinder: Option<Cinder>, windows: Windows) -> Self {
        let claims = Arc::new(Claims::new(records.clone()));
        Self {
            records,
            breaker: Arc::default(),
            claims,
            findings: Arc::default(),
            record_ages: Arc::default(),
            windows,
            cinder: parking_lot::RwLock::new(cinder),
        }
    }

    /// The configured Cinder.
    pub(super) fn cinder(&self) -> Option<Cinder> {
        self.cinder.read().clone()
    }

    pub(super) fn is_configured(&self) -> bool {
        self.cinder.read().is_some()
    }

    pub(super) fn replace_cinder(&self, cinder: Option<Cinder>) {
        let mut current = self.cinder.write();
        *current = cinder;
        // Failures and connections of the old Cinder do not count for the new one.
        self.breaker.reset();
        self.findings.clear();
    }

    /// Why Cinder is unavailable, if the endpoint circuit is open.
    pub(super) fn outage(&self) -> Option<String> {
        self.breaker.check(&CircuitScope::Endpoint).err()
    }

    /// Why the backend of a volume type is unavailable, if its circuit is open.
    pub(super) fn backend_outage(&self, volume_type: &str) -> Option<Outage> {
        let circuit = self.breaker.check(&CircuitScope::Backend(volume_type.to_owned()));
        circuit.err().map(|reason| Outage::open_circuit(volume_type, &reason))
    }

    pub(super) fn monitor(&self, cinder: Cinder) -> MonitoredCinder {
        MonitoredCinder::new(cinder, Arc::clone(&self.breaker))
    }

    /// An attacher for the holder of a claim. `cinder` has the response clock of the attempt.
    pub(super) fn attacher(&self, cinder: &MonitoredCinder, claim: HeldClaim) -> Attacher {
        let shared = AttachContext {
            claims: Arc::clone(&self.claims),
            findings: Arc::clone(&self.findings),
            record_ages: Arc::clone(&self.record_ages),
            windows: self.windows,
        };
        Attacher::new(cinder, &self.records, claim, shared)
    }
}
