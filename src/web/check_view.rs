//! [`CheckView`]: the last check of a node's volumes, as the page of its machine shows it.

use jiff::Timestamp;

use super::format;
use crate::check::{CheckReport, PortalLogin, VolumeReport, VolumeRole};

/// A check of a node's volumes, formatted for the page.
pub(super) struct CheckView {
    pub(super) ago: String,
    pub(super) volumes: Vec<VolumeReportRow>,
}

/// A volume of a check.
pub(super) struct VolumeReportRow {
    pub(super) id: String,
    pub(super) verdict: Vec<String>,
    pub(super) portals: Vec<String>,
    pub(super) findings: Vec<String>,
}

impl CheckView {
    pub(super) fn new(report: &CheckReport, now: Timestamp) -> Self {
        let ago = format::time_ago(report.checked_at, now);
        Self { ago, volumes: report.volumes.iter().map(volume_row).collect() }
    }
}

fn volume_row(volume: &VolumeReport) -> VolumeReportRow {
    let portals = volume.portals.iter().map(|portal| {
        let login = match &portal.login {
            PortalLogin::Admitted => "login ok",
            PortalLogin::Failed(reason) => reason,
        };
        format!("{}, LUN {}: {login}", portal.portal, portal.lun)
    });
    VolumeReportRow {
        id: match volume.role {
            VolumeRole::Fallback => format!("{} (fallback)", volume.volume_id),
            VolumeRole::Boot | VolumeRole::Data => volume.volume_id.clone(),
        },
        verdict: volume.verdict.clone(),
        portals: portals.collect(),
        findings: volume.findings.clone(),
    }
}
