//! The texts of a boot session's state: cut and counted, because machines send parts of them.

use super::boot_stage::BootStage;
use super::dhcp_progress::DhcpProgress;
use super::progress::BootProgress;
use crate::model::excerpt;

impl BootProgress {
    /// Cuts the texts that a version without this rule has stored.
    pub(super) fn cut_texts(&mut self) {
        match &mut self.stage {
            BootStage::Loaded { file, .. } | BootStage::LoadFailed { file, .. } => *file = excerpt(file),
            BootStage::DhcpRequested
            | BootStage::NoNetworkBoot { .. }
            | BootStage::SessionStarted
            | BootStage::LoadRefused { .. }
            | BootStage::NoBoot { .. }
            | BootStage::ScriptSent { .. }
            | BootStage::Hooked
            | BootStage::Failed
            | BootStage::Up => {}
        }
    }

    /// Bytes of all texts.
    pub(super) fn texts_size(&self) -> usize {
        let stage = match &self.stage {
            BootStage::Loaded { file, .. } | BootStage::LoadFailed { file, .. } => file.len(),
            BootStage::LoadRefused { reason } | BootStage::NoBoot { reason, .. } => reason.len(),
            BootStage::DhcpRequested
            | BootStage::NoNetworkBoot { .. }
            | BootStage::SessionStarted
            | BootStage::ScriptSent { .. }
            | BootStage::Hooked
            | BootStage::Failed
            | BootStage::Up => 0,
        };
        let after_boot = self.dhcp_after_boot.as_ref().map(|after_boot| &after_boot.requests);
        let dhcp = self.dhcp.iter().chain(after_boot).map(DhcpProgress::texts_size).sum::<usize>();
        let once = self.once.as_ref().map_or(0, String::len);
        stage + dhcp + once + self.hooks.iter().map(String::len).sum::<usize>()
    }
}
