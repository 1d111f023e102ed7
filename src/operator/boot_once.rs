//! One-time boots: set for the next boot of a node's machine, shown, and cancelled.
//!
//! A volume that another node uses is refused unless the operator shares it. The scan for such a node and the write are
//! consistent: the write requires that no volume target and no one-time boot has changed since the scan.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use super::Operator;
use super::refusal::{OperationRefusal, check_unreserved};
use crate::boot::NamedVolume;
use crate::boot::validate::read_machine_settings;
use crate::model::{BootOnce, ChainUrl, Connection, Node, OnceSource, PowerState, SanUri, VolumeConnector};
use crate::store::{InventoryError, StoreError};

/// How long a one-time boot waits for the machine unless the operator says otherwise.
pub const DEFAULT_ONCE_TTL: Duration = Duration::from_secs(60 * 60);
/// The longest time, also that of Ironic's one-time boot device, which has no limit.
pub const MAX_ONCE_TTL: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Scans for another user of the volume before giving up, because records keep changing.
const SCANS: usize = 20;

/// A one-time boot, as an operator asks for it.
#[derive(Debug)]
pub struct OnceRequest {
    /// What the machine boots.
    pub source: OnceSource,
    /// Whether the node's own volumes follow.
    pub with_volumes: bool,
    /// Whether another node may use the volume too.
    pub shared: bool,
    /// How long the one-time boot waits for the machine.
    pub ttl: Duration,
}

/// The source of a one-time boot as a client or a form sent it: exactly one has to be set.
#[derive(Debug, Default)]
pub struct SourceText<'a> {
    /// The UUID of a Cinder volume.
    pub volume: Option<&'a str>,
    /// A fixed target: a SAN URI.
    pub target: Option<&'a str>,
    /// The CHAP user at the target.
    pub chap_user: Option<&'a str>,
    /// The CHAP secret of that user.
    pub chap_secret: SecretString,
    /// The URL of a script or a program.
    pub url: Option<&'a str>,
    /// The machine's local disk.
    pub local: bool,
    /// The iPXE shell.
    pub shell: bool,
}

impl SourceText<'_> {
    /// Parses the source, or says what is wrong with it.
    pub fn parse(&self) -> Result<OnceSource, OperationRefusal> {
        let invalid = |text: String| Err(OperationRefusal::Invalid(text));
        let secret = self.chap_secret.expose_secret();
        let chap_user = self.chap_user.filter(|user| !user.is_empty());
        if self.target.is_none() && (chap_user.is_some() || !secret.is_empty()) {
            return invalid(
                "auth_username and auth_password require a target; Cinder provides the credentials of its volumes"
                    .into(),
            );
        }
        match (self.volume, self.target, self.url, self.local, self.shell) {
            (Some(volume), None, None, false, false) => match volume.parse::<Uuid>() {
                Ok(uuid) => Ok(OnceSource::Volume { volume_id: uuid.to_string() }),
                Err(_) => invalid(format!("Expected UUID for volume: {volume}")),
            },
            (None, Some(target), None, false, false) => parse_target(target, chap_user, secret),
            (None, None, Some(url), false, false) => match url.parse::<ChainUrl>() {
                Ok(url) => Ok(OnceSource::Url { url: url.to_string() }),
                Err(error) => invalid(format!("url: {error}")),
            },
            (None, None, None, true, false) => Ok(OnceSource::Local),
            (None, None, None, false, true) => Ok(OnceSource::Shell),
            _ => invalid("Exactly one of volume, target, url, local and shell is required".into()),
        }
    }
}

fn parse_target(target: &str, user: Option<&str>, secret: &str) -> Result<OnceSource, OperationRefusal> {
    let invalid = |text: String| OperationRefusal::Invalid(text);
    let uri: SanUri = target.parse().map_err(|error| invalid(format!("target: {error}")))?;
    let credentials = match (user, secret) {
        (None, "") => None,
        (Some(user), secret) if !secret.is_empty() => Some((user, secret)),
        _ => return Err(invalid("auth_username and auth_password must be set together".into())),
    };
    let source = OnceSource::from_target(&uri, credentials);
    if let OnceSource::Target { properties } = &source {
        Connection::from_record(properties).map_err(|error| invalid(format!("target: {error}")))?;
    }
    Ok(source)
}

impl Operator {
    /// The one-time boot of a node, in every state.
    pub async fn find_boot_once(&self, node: &Node) -> Result<Option<BootOnce>, StoreError> {
        self.inventory.find_boot_once(node.uuid).await
    }

    /// Sets the one-time boot of a node, in place of an earlier one.
    pub async fn set_boot_once(
        &self,
        node: &Node,
        request: OnceRequest,
        now: Timestamp,
    ) -> Result<BootOnce, OperationRefusal> {
        check_unreserved(node)?;
        let named = NamedVolume::of_once(&request.source);
        let connectors: Vec<VolumeConnector> = self.inventory.list_all_of(node.uuid).await?;
        self.check_once(node, &connectors, &request, named.is_some())?;
        let OnceRequest { source, with_volumes, shared, ttl } = request;
        let ttl = SignedDuration::try_from(ttl).unwrap_or(SignedDuration::ZERO);
        let new = BootOnce {
            uuid: Uuid::new_v4(),
            created_at: now,
            node_uuid: node.uuid,
            source,
            with_volumes,
            shared,
            expires_at: now + ttl,
            journey: None,
            consumed_at: None,
            earlier_volume: None,
        };
        for _ in 0..SCANS {
            let scanned = match &named {
                Some(named) if !shared => {
                    // Before the scan: a later change conflicts with the write.
                    let revision = self.inventory.revision_after(0).unwrap_or_default();
                    if let Some(user) = self.boot.find_other_user(node.uuid, named, now).await? {
                        let share = "share it (--shared) if no two machines write it at a time";
                        return Err(OperationRefusal::Conflict(format!("{user}; {share}")));
                    }
                    Some(revision)
                }
                _ => None,
            };
            if let Some(written) = self.inventory.set_boot_once(&new, scanned).await? {
                tracing::info!(node = %node.uuid, source = %written.source, "one-time boot set");
                return Ok(written);
            }
        }
        Err(OperationRefusal::Conflict("The volumes of nodes keep changing; try again.".into()))
    }

    /// Cancels the one-time boot of a node, and detaches its volume. One that took the place of another which the machine
    /// has got expires instead: the machine may run from that earlier volume, so the next boot ends both.
    pub async fn cancel_boot_once(&self, node: &Node, now: Timestamp) -> Result<(), OperationRefusal> {
        // A journey may consume it meanwhile: then the consumed one ends.
        self.cancel_boot_once_if(node, |_| true, now).await.map(drop)
    }

    /// The same, as long as the one-time boot is the meant one. Returns whether it was, or there is none.
    pub async fn cancel_boot_once_if(
        &self,
        node: &Node,
        is_meant: impl Fn(&BootOnce) -> bool,
        now: Timestamp,
    ) -> Result<bool, OperationRefusal> {
        while let Some(once) = self.inventory.find_boot_once(node.uuid).await? {
            if !is_meant(&once) {
                return Ok(false);
            }
            if self.cancel_once(node, &once, now).await? {
                break;
            }
        }
        Ok(true)
    }

    /// Cancels this one-time boot. Returns whether the record stays, expired.
    async fn cancel_once(
        &self,
        node: &Node,
        once: &BootOnce,
        now: Timestamp,
    ) -> Result<bool, InventoryError> {
        let may_run = once.has_earlier_volume() && node.recorded_power_state() != Some(PowerState::Off);
        if !may_run {
            self.inventory.end_boot_once(once).await?;
            return Ok(false);
        }
        Ok(!once.is_armed(now) || self.inventory.expire_boot_once(once, now).await?)
    }

    /// Cancels a one-time boot from the local disk that the machine has not got yet: the node gets another boot device.
    pub async fn cancel_local_boot(&self, node: &Node, now: Timestamp) -> Result<(), OperationRefusal> {
        if let Some(once) = self.inventory.find_boot_once(node.uuid).await?
            && once.source == OnceSource::Local
            && once.is_armed(now)
        {
            self.cancel_once(node, &once, now).await?;
        }
        Ok(())
    }

    /// Refuses a one-time boot that the node's records do not allow.
    fn check_once(
        &self,
        node: &Node,
        connectors: &[VolumeConnector],
        request: &OnceRequest,
        has_volume: bool,
    ) -> Result<(), OperationRefusal> {
        let invalid = |text: String| Err(OperationRefusal::Invalid(text));
        if request.ttl < Duration::from_secs(1) || request.ttl > MAX_ONCE_TTL {
            return invalid("ttl must be between 1 s and 30 days".into());
        }
        if !has_volume && (request.with_volumes || request.shared) {
            return invalid("with_volumes and shared require a volume or a target".into());
        }
        if has_volume && node.undeployed {
            let text = format!("Node {} is undeployed; deploy it before its machine may boot.", node.label());
            return Err(OperationRefusal::Conflict(text));
        }
        if matches!(request.source, OnceSource::Volume { .. }) && !self.attach.is_configured() {
            return invalid("volume: no Cinder is configured ([cinder] cloud); name a target".into());
        }
        match read_machine_settings(node, connectors, &[]).initiator {
            Err(fault) if has_volume => invalid(format!("Node {}: {fault}", node.label())),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: &str = "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";
    const TARGET: &str = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:rescue";

    fn kind(text: &SourceText<'_>) -> Result<&'static str, String> {
        text.parse().map(|source| source.kind()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn exactly_one_source_is_taken() {
        let none = SourceText::default;
        let one_of = "Exactly one of volume, target, url, local and shell is required".to_owned();
        let together = "auth_username and auth_password must be set together".to_owned();
        for (text, expected) in [
            (none(), Err(one_of.clone())),
            (SourceText { volume: Some(VOLUME), ..none() }, Ok("volume")),
            (SourceText { volume: Some("disk-1"), ..none() }, Err("Expected UUID for volume: disk-1".into())),
            (SourceText { target: Some(TARGET), ..none() }, Ok("target")),
            (SourceText { volume: Some(VOLUME), target: Some(TARGET), ..none() }, Err(one_of.clone())),
            (SourceText { target: Some(TARGET), chap_user: Some("ann"), ..none() }, Err(together.clone())),
            (SourceText { target: Some(TARGET), chap_secret: "x".into(), ..none() }, Err(together)),
            (
                SourceText {
                    target: Some(TARGET),
                    chap_user: Some("ann"),
                    chap_secret: "x".into(),
                    ..none()
                },
                Ok("target"),
            ),
            (SourceText { url: Some("http://192.0.2.1/rescue.ipxe"), ..none() }, Ok("url")),
            (SourceText { local: true, ..none() }, Ok("local")),
            (SourceText { shell: true, ..none() }, Ok("shell")),
            (SourceText { local: true, shell: true, ..none() }, Err(one_of)),
        ] {
            assert_eq!(kind(&text), expected, "{text:?}");
        }
        for text in [
            SourceText { local: true, chap_user: Some("ann"), ..none() },
            SourceText { volume: Some(VOLUME), chap_secret: "x".into(), ..none() },
            SourceText { target: Some("disk-1"), ..none() },
            SourceText { url: Some("rescue.ipxe"), ..none() },
        ] {
            assert!(kind(&text).is_err(), "{text:?}");
        }
    }
}
