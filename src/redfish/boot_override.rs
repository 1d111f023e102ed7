//! The boot source override: where a system boots from next, or from now on (DSP2046, ComputerSystem.Boot).

use std::fmt;

use serde_json::{Map, Value, json};

use super::bmc::Bmc;
use super::error::{BmcFault, RedfishError};
use super::quirks::{self, CallKind, Quirk};
use super::{BootOverride, ComputerSystem};

/// A boot source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootSource {
    /// PXE over the network.
    Pxe,
    /// HTTP boot of UEFI.
    UefiHttp,
    /// The first hard disk.
    Hdd,
    /// An optical drive.
    Cd,
    /// The firmware's setup menu.
    BiosSetup,
}

/// The firmware mode of a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootMode {
    /// UEFI.
    Uefi,
    /// BIOS.
    Legacy,
}

/// A boot override to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverrideRequest {
    /// The source.
    pub source: BootSource,
    /// For all boots, or only the next.
    pub persistent: bool,
    /// The mode; `None`: the present one.
    pub mode: Option<BootMode>,
}

impl BootSource {
    const ALL: [Self; 5] = [Self::Pxe, Self::UefiHttp, Self::Hdd, Self::Cd, Self::BiosSetup];

    /// Redfish's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pxe => "Pxe",
            Self::UefiHttp => "UefiHttp",
            Self::Hdd => "Hdd",
            Self::Cd => "Cd",
            Self::BiosSetup => "BiosSetup",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == name)
    }
}

impl BootMode {
    /// Redfish's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uefi => "UEFI",
            Self::Legacy => "Legacy",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Uefi, Self::Legacy].into_iter().find(|mode| mode.as_str().eq_ignore_ascii_case(name))
    }
}

impl fmt::Display for OverrideRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let enabled = if self.persistent { "Continuous" } else { "Once" };
        write!(f, "{} {enabled}", self.source.as_str())?;
        self.mode.map_or(Ok(()), |mode| write!(f, " {}", mode.as_str()))
    }
}

impl fmt::Display for BootOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let enabled = match self.persistent {
            Some(true) => "Continuous",
            Some(false) => "Once",
            None => "Disabled",
        };
        write!(f, "{} {enabled}", self.source.map_or("None", BootSource::as_str))?;
        self.mode.map_or(Ok(()), |mode| write!(f, " {}", mode.as_str()))
    }
}

impl BootOverride {
    /// Whether the next boot is from the network.
    pub fn is_network(&self) -> bool {
        matches!(self.source, Some(BootSource::Pxe | BootSource::UefiHttp)) && self.persistent.is_some()
    }

    /// Whether the BMC lists the source; without a list it may have it.
    pub fn offers(&self, source: BootSource) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == source.as_str()))
    }

    /// The body of the request. All properties are sent together, except for a mode that the BMC does not have.
    fn body(&self, request: OverrideRequest) -> Value {
        let mut boot = Map::new();
        boot.insert("BootSourceOverrideTarget".into(), request.source.as_str().into());
        let enabled = if request.persistent { "Continuous" } else { "Once" };
        boot.insert("BootSourceOverrideEnabled".into(), enabled.into());
        if let Some(mode) = self.mode {
            boot.insert("BootSourceOverrideMode".into(), request.mode.unwrap_or(mode).as_str().into());
        }
        json!({"Boot": boot})
    }

    /// Whether a read confirms the request. A BMC that shows `Continuous` for `Once` boots from the source, too.
    fn confirms(&self, request: OverrideRequest) -> bool {
        let has_mode = request.mode.is_none() || self.mode.is_none() || self.mode == request.mode;
        self.source == Some(request.source) && self.persistent.is_some() && has_mode
    }
}

impl Bmc {
    /// Sets the boot override, and confirms it by a read. Returns the override as it is.
    pub async fn set_boot_override(
        &self,
        system: &ComputerSystem,
        request: OverrideRequest,
    ) -> Result<BootOverride, RedfishError> {
        self.try_override(system, request).await.map_err(|fault| self.error(fault))
    }

    async fn try_override(
        &self,
        system: &ComputerSystem,
        request: OverrideRequest,
    ) -> Result<BootOverride, BmcFault> {
        if !system.boot.offers(request.source) {
            let offered =
                super::message::cut_text(&system.boot.allowed.clone().unwrap_or_default().join(", "));
            let source = request.source.as_str();
            return Err(BmcFault::Unsupported(format!("boot the system from {source}: it offers {offered}")));
        }
        let mut request = request;
        let mut current = system.clone();
        // The second request is for a BMC that has forgotten the first one.
        for attempt in 1..=2 {
            let change = self.change_override(&current, request).await;
            if let Err(fault) = &change
                && request.persistent
                && quirks::wants_once(fault)
            {
                Quirk::NoContinuous.note(&self.access.address);
                request.persistent = false;
                self.change_override(&current, request).await?;
            } else {
                change?;
            }
            let shown = self.find_and_read_system().await?;
            let settings = self.read_settings(&shown).await;
            let boot = match settings.map(|(_, boot, _)| boot).filter(|boot| boot.confirms(request)) {
                Some(boot) => boot,
                None => shown.boot.clone(),
            };
            // A service without the properties cannot confirm.
            if boot.confirms(request) || boot == BootOverride::default() {
                return Ok(boot);
            }
            if attempt == 2 {
                return Err(BmcFault::OverrideIgnored { asked: request.to_string(), has: boot.to_string() });
            }
            Quirk::OverrideForgotten.note(&self.access.address);
            tokio::time::sleep(quirks::pause_of(self.limits.pause, 2)).await;
            current = shown;
        }
        Ok(current.boot)
    }

    /// Sends the change to the settings resource, if it has the override, or else to the system.
    async fn change_override(
        &self,
        system: &ComputerSystem,
        request: OverrideRequest,
    ) -> Result<(), BmcFault> {
        let body = system.boot.body(request);
        match self.read_settings(system).await {
            Some((path, _, etag)) => {
                Quirk::SettingsResource.note(&self.access.address);
                self.patch(&path, &body, etag.as_deref()).await
            }
            None => self.patch(&system.path, &body, system.etag.as_deref()).await,
        }
    }

    /// Reads the settings resource, if it has the override.
    async fn read_settings(&self, system: &ComputerSystem) -> Option<(String, BootOverride, Option<String>)> {
        let path = self.local_path(system.settings.as_deref()?)?;
        let (value, etag) = self.get(&path).await.ok()?;
        let boot = &value["Boot"];
        boot["BootSourceOverrideTarget"].is_string().then(|| (path, BootOverride::parse(boot), etag))
    }

    async fn patch(&self, path: &str, body: &Value, etag: Option<&str>) -> Result<(), BmcFault> {
        let etags = quirks::list_etags(etag);
        let last = etags.len() - 1;
        for (at, etag) in etags.iter().enumerate() {
            let change = CallKind::Change;
            let result =
                self.request(reqwest::Method::PATCH, path, Some(body), etag.as_deref(), change).await;
            match result {
                Ok(_) => return Ok(()),
                Err(fault) => match quirks::wants_other_etag(&fault) {
                    Some(quirk) if at < last => quirk.note(&self.access.address),
                    _ => return Err(fault),
                },
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot(value: Value) -> BootOverride {
        BootOverride::parse(&value)
    }

    #[test]
    fn a_request_has_the_mode_only_where_the_bmc_has_one() {
        let pxe = OverrideRequest { source: BootSource::Pxe, persistent: false, mode: Some(BootMode::Uefi) };
        let without = boot(json!({"BootSourceOverrideTarget": "None"}));
        let expected =
            json!({"Boot": {"BootSourceOverrideTarget": "Pxe", "BootSourceOverrideEnabled": "Once"}});
        assert_eq!(without.body(pxe), expected);
        let legacy = boot(json!({"BootSourceOverrideMode": "Legacy"}));
        assert_eq!(legacy.body(pxe)["Boot"]["BootSourceOverrideMode"], "UEFI");
        let kept = legacy.body(OverrideRequest { mode: None, ..pxe });
        assert_eq!(kept["Boot"]["BootSourceOverrideMode"], "Legacy", "the mode is sent, lest it is reset");
    }

    #[test]
    fn an_override_is_confirmed_by_source_enabling_and_mode() {
        let pxe = OverrideRequest { source: BootSource::Pxe, persistent: false, mode: Some(BootMode::Uefi) };
        let read = |target: &str, enabled: &str, mode: Option<&str>| {
            let boot = boot(json!({
                "BootSourceOverrideTarget": target, "BootSourceOverrideEnabled": enabled,
                "BootSourceOverrideMode": mode,
            }));
            (boot.confirms(pxe), boot.to_string())
        };
        assert_eq!(read("Pxe", "Once", Some("UEFI")), (true, "Pxe Once UEFI".into()));
        assert!(read("Pxe", "Continuous", None).0);
        // The capture of a Supermicro AS-1015CS after an accepted request.
        assert_eq!(read("Pxe", "Disabled", Some("Legacy")), (false, "Pxe Disabled Legacy".into()));
        assert!(!read("Hdd", "Once", Some("UEFI")).0);
        assert!(!read("Pxe", "Once", Some("Legacy")).0);
    }
}
