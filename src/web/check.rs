//! `/ui/machines/{machine}/check`: checks the volumes of a machine's node, and the last check as the page shows it.

use axum::extract::{Path, State};
use axum::response::Redirect;
use jiff::Timestamp;

use super::page::ErrorPage;
use super::{SharedState, format, machine, machines};
use crate::check::{CheckReport, PortalLogin, VolumeReport};
use crate::timeline::MachineId;

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
        id: volume.volume_id.clone(),
        verdict: volume.verdict.clone(),
        portals: portals.collect(),
        findings: volume.findings.clone(),
    }
}

/// `POST /ui/machines/{machine}/check`
pub(super) async fn submit(
    State(operator): State<SharedState>,
    Path(id): Path<String>,
) -> Result<Redirect, ErrorPage> {
    let id = machine::parse_machine_id(&id)?;
    let node = match id {
        MachineId::Mac(mac) => operator.find_requester(mac).await?.node,
        MachineId::Address(_) => None,
    };
    let Some(node) = node else {
        return Err(ErrorPage::not_found(
            "No node has a port with this MAC address, so there is no volume to check.",
        ));
    };
    operator.check_volumes(&node).await?.ok_or_else(ErrorPage::internal)?;
    Ok(Redirect::to(&format!("{}#check-heading", machines::machine_link(id))))
}
