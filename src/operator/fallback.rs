//! The fallback of a node: set, removed, promoted, and given up again.
//!
//! A fallback is refused if another node uses its volume, and is not taken from a machine that may run from it. Each rule and
//! its write are one step: what another instance names or gives meanwhile makes the write fail, and the rule is checked again.

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

use super::Operator;
use super::refusal::{OperationRefusal, check_unreserved};
use crate::boot::FallbackPolicy;
use crate::model::{
    Chap, Connection, Fallback, FallbackInForce, FallbackSecret, FallbackSource, FallbackState, LoaderPath,
    Node, PowerState, Promotion, PromotionError, SanUri, StorageInterface, VolumeTarget,
};
use crate::store::{FallbackBasis, FallbackSnapshot, StoreError};

/// Attempts to set a fallback while other volumes are named at the same time.
const ATTEMPTS: usize = 20;

/// The values of a fallback, as a client or a form sent them.
#[derive(Debug, Default)]
pub struct FallbackValues<'a> {
    /// The id of a Cinder volume; empty: a fixed target.
    pub volume: &'a str,
    /// The [`SanUri`]s of a fixed target, one per path; empty: a Cinder volume.
    pub targets: Vec<&'a str>,
    /// The CHAP user at the target; empty without CHAP.
    pub chap_user: &'a str,
    /// The CHAP secret of that user.
    pub chap_secret: SecretString,
    /// The boot loader's file; empty: that of the node, or the default.
    pub loader: &'a str,
    /// Whether the node's data volumes are hooked beside the fallback.
    pub with_data: bool,
    /// Whether another node may name the same volume.
    pub shared: bool,
}

/// A node's fallback and its state.
#[derive(Debug, Clone)]
pub struct FallbackStatus {
    /// The fallback; `None`: the node has none, or an invalid one.
    pub fallback: Option<Fallback>,
    /// The CHAP user of a fixed target. Its secret is never shown.
    pub chap_user: Option<String>,
    /// The volume id of the node's boot volume, with which a promotion changes places.
    pub own_volume: Option<String>,
    /// Failed boots in a row.
    pub failed_boots: u32,
    /// Why the count was set to 0 last.
    pub last_reset: Option<String>,
    /// The fallback in force, if it is.
    pub in_force: Option<FallbackInForce>,
    /// Whether the operating system on the node's boot volume has reported `up`: before that, no boot is from the fallback.
    pub has_reported_up: bool,
    /// Why the fallback cannot come into force.
    pub obstacle: Option<String>,
    /// The limits of the configuration.
    pub policy: FallbackPolicy,
}

impl FallbackValues<'_> {
    fn parse(&self) -> Result<(Fallback, Option<Chap>), OperationRefusal> {
        let invalid = |text: String| OperationRefusal::Invalid(text);
        let source = match (self.volume, self.targets.as_slice()) {
            ("", []) | (_, [_, ..]) if self.volume.is_empty() == self.targets.is_empty() => {
                return Err(invalid("A fallback is either a volume or a target.".to_owned()));
            }
            ("", uris) => {
                let paths: Result<_, _> = uris.iter().map(|uri| uri.parse::<SanUri>()).collect();
                let paths = paths.map_err(|error| invalid(format!("Invalid target: {error}.")))?;
                FallbackSource::Target { name: None, paths }
            }
            (volume, _) => match volume.parse::<Uuid>() {
                Ok(volume) => FallbackSource::Volume(volume.to_string()),
                Err(_) => {
                    return Err(invalid("Invalid volume: expected the UUID of a Cinder volume.".to_owned()));
                }
            },
        };
        let loader: Option<LoaderPath> = match self.loader {
            "" => None,
            loader => {
                Some(loader.parse().map_err(|error| invalid(format!("Invalid uefi_loader: {error}.")))?)
            }
        };
        let chap = match (self.chap_user, self.chap_secret.expose_secret(), &source) {
            ("", "", _) => None,
            ("", ..) => return Err(invalid("The CHAP secret has no user.".to_owned())),
            (_, "", _) => return Err(invalid("The CHAP user has no secret.".to_owned())),
            (.., FallbackSource::Volume(_)) => {
                return Err(invalid("Cinder provides the credentials of its volumes.".to_owned()));
            }
            (user, secret, FallbackSource::Target { .. }) => {
                Some(Chap { username: user.to_owned(), password: secret.into() })
            }
        };
        Ok((Fallback { source, loader, with_data: self.with_data, shared: self.shared }, chap))
    }
}

impl Operator {
    /// Sets the fallback of a node, in place of an earlier one.
    pub async fn set_fallback(
        &self,
        node: &Node,
        values: &FallbackValues<'_>,
        now: Timestamp,
    ) -> Result<(), OperationRefusal> {
        let (fallback, chap) = values.parse()?;
        let secret = chap.map(|chap| FallbackSecret { target: fallback.source.key(), chap });
        // The length of a credential, for example.
        if let FallbackSource::Target { .. } = &fallback.source {
            let target = fallback.volume_target(node, secret.as_ref());
            Connection::from_record(&target.properties)
                .map_err(|error| OperationRefusal::Invalid(format!("Invalid target: {error}.")))?;
        }
        for _ in 0..ATTEMPTS {
            let since = self.inventory.revision_after(0).unwrap_or_default();
            let present = self.inventory.get::<Node>(node.uuid).await?;
            let present = present.ok_or(OperationRefusal::NotFound)?.value;
            let new = Fallback::write(Some(&fallback), present.clone());
            let idle = self.check_new_fallback(&present, &new).await?;
            let basis = FallbackBasis { since: Some(since), idle: idle.as_ref() };
            let change = |old: &Node| {
                check_unreserved(old)?;
                Ok(Node { updated_at: Some(now), ..Fallback::write(Some(&fallback), old.clone()) })
            };
            let written = self.inventory.set_fallback(node.uuid, basis, secret.as_ref(), change).await;
            if written.map_err(OperationRefusal::from)?.is_some() {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Checks the fallback in the next record of a node, if it is another than in the present one: its machine must not run
    /// from the old one, and no other node may use the new one. Returns the basis of the first rule.
    pub async fn check_new_fallback(
        &self,
        old: &Node,
        new: &Node,
    ) -> Result<Option<FallbackSnapshot>, OperationRefusal> {
        let next = Fallback::of(new);
        if Fallback::of(old) == next && old.storage_interface == new.storage_interface {
            return Ok(None);
        }
        let fallback = next.map_err(|error| OperationRefusal::Invalid(format!("{error}.")))?;
        let source = |fallback: &Fallback| fallback.source.clone();
        let old_source = Fallback::of(old).ok().flatten().as_ref().map(source);
        let mut idle = None;
        if old_source.is_some() && old_source != fallback.as_ref().map(source) {
            idle = Some(self.check_not_running(old).await?);
        }
        let Some(fallback) = fallback else { return Ok(idle) };
        if let Some(obstacle) = find_obstacle(new, &fallback) {
            return Err(OperationRefusal::Invalid(format!(
                "Node {} cannot have this fallback: {obstacle}.",
                new.uuid
            )));
        }
        match self.boot.check_fallback(new, fallback).await? {
            Ok(()) => Ok(idle),
            Err(reason) => Err(OperationRefusal::Conflict(format!(
                "Node {} cannot have this fallback: {reason}. If both nodes may write to the volume at the same time, set \
                 the fallback as shared.",
                new.uuid
            ))),
        }
    }

    /// Refuses to take a fallback from a node whose machine may run from it: another node could get the volume.
    async fn check_not_running(&self, node: &Node) -> Result<FallbackSnapshot, OperationRefusal> {
        let snapshot = self.inventory.fallbacks().read(node.uuid, None).await?;
        let snapshot = snapshot.ok_or(OperationRefusal::NotFound)?;
        if !snapshot.state.may_run || snapshot.node.recorded_power_state() == Some(PowerState::Off) {
            return Ok(snapshot);
        }
        Err(OperationRefusal::Conflict(format!(
            "The machine of node {0} may run from its fallback. Return to its own volume first (volboot retry {0}) and boot it, \
             or switch it off.",
            node.label()
        )))
    }

    /// Removes the fallback of a node.
    pub async fn clear_fallback(&self, node: &Node, now: Timestamp) -> Result<(), OperationRefusal> {
        for _ in 0..ATTEMPTS {
            let idle = self.check_not_running(node).await?;
            let change = |old: &Node| {
                check_unreserved(old)?;
                Ok(Node { updated_at: Some(now), ..Fallback::write(None, old.clone()) })
            };
            let basis = FallbackBasis { since: None, idle: Some(&idle) };
            let written = self.inventory.set_fallback(node.uuid, basis, None, change).await;
            if written.map_err(OperationRefusal::from)?.is_some() {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Lets a node's boot volume and its fallback change places for good.
    pub async fn promote_fallback(&self, node: &Node, now: Timestamp) -> Result<(), OperationRefusal> {
        let refuse = |error: PromotionError| {
            OperationRefusal::Conflict(format!("Node {} cannot be promoted: {error}.", node.uuid))
        };
        let promote = |present: &Node, target: &VolumeTarget, secret: Option<&FallbackSecret>| {
            check_unreserved(present)?;
            // A second promotion at the same time would undo the first.
            if Fallback::of(present) != Fallback::of(node) {
                return Err(OperationRefusal::Conflict(format!(
                    "The fallback of node {} was changed at the same time.",
                    node.uuid
                )));
            }
            Promotion::of(present, target, secret).map_err(refuse)
        };
        let without_target = || refuse(PromotionError::NoBootVolume);
        let promoted = self.inventory.promote_fallback(node.uuid, now, promote, without_target).await;
        promoted.map(drop).map_err(OperationRefusal::from)
    }

    /// Ends a fallback in force, and the count of failed boots: the next boot is from the node's own volume.
    pub async fn retry_own_volume(&self, node: &Node) -> Result<(), OperationRefusal> {
        if !matches!(Fallback::of(node), Ok(Some(_))) {
            return Err(OperationRefusal::Conflict(format!("Node {} has no fallback.", node.uuid)));
        }
        let records = self.inventory.fallbacks();
        let change = |state: &mut FallbackState| {
            state.reset("an operator asked for the node's own volume");
            (state.in_force, state.boot) = (None, None);
        };
        Ok(records.change(node.uuid, change).await.map(drop)?)
    }

    /// Reads a node's fallback and its state.
    pub async fn fallback_status(&self, node: &Node) -> Result<FallbackStatus, StoreError> {
        let targets: Vec<VolumeTarget> = self.inventory.list_all_of(node.uuid).await?;
        let target = targets.iter().find(|target| target.boot_index == 0).map(|target| target.uuid);
        let snapshot = self.inventory.fallbacks().read(node.uuid, target).await?;
        let parsed = Fallback::of(node);
        let fallback = parsed.as_ref().ok().cloned().flatten();
        let obstacle = match &parsed {
            Err(error) => Some(error.to_string()),
            Ok(fallback) => fallback.as_ref().and_then(|fallback| find_obstacle(node, fallback)),
        };
        let Some(snapshot) = snapshot else {
            return Ok(FallbackStatus {
                fallback,
                chap_user: None,
                own_volume: None,
                failed_boots: 0,
                last_reset: None,
                in_force: None,
                has_reported_up: false,
                obstacle,
                policy: self.boot.fallback_policy(),
            });
        };
        let has_reported_up = snapshot.has_reported_up();
        let source = fallback.as_ref().map(|fallback| &fallback.source);
        let secret =
            snapshot.secret.filter(|secret| source.is_some_and(|source| source.key() == secret.target));
        let in_force = source.and_then(|source| snapshot.state.in_force_for(source));
        let never_up = "the operating system on the node's boot volume has never reported up";
        let by_window = source.filter(|_| in_force.is_none()).and(self.boot.find_fallback_obstacle(node));
        let is_awaited = source.is_some() && in_force.is_none() && !has_reported_up;
        let obstacle = obstacle
            .or_else(|| by_window.map(str::to_owned))
            .or_else(|| is_awaited.then(|| never_up.to_owned()));
        Ok(FallbackStatus {
            chap_user: secret.map(|secret| secret.chap.username),
            own_volume: snapshot.target.map(|target| target.volume_id),
            failed_boots: snapshot.state.failed_boots,
            last_reset: snapshot.state.last_reset.clone(),
            in_force: in_force.cloned(),
            has_reported_up,
            obstacle,
            fallback,
            policy: self.boot.fallback_policy(),
        })
    }
}

/// Why a node cannot boot from a fallback at all, by its records alone.
fn find_obstacle(node: &Node, fallback: &Fallback) -> Option<String> {
    let interface = &node.storage_interface;
    match (interface, &fallback.source) {
        (StorageInterface::Noop, _) => {
            Some("with storage interface noop, its machine boots from the local disk".to_owned())
        }
        (StorageInterface::Cinder, FallbackSource::Volume(_))
        | (StorageInterface::External, FallbackSource::Target { .. }) => None,
        _ if fallback.with_data => Some(format!(
            "its data volumes are of storage interface {interface}, and cannot be hooked beside a volume of another one"
        )),
        _ => None,
    }
}

fn busy() -> OperationRefusal {
    OperationRefusal::Conflict(
        "The node or the volumes of others are being changed at the same time; please retry.".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:spare";
    const VOLUME: &str = "0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";

    #[test]
    fn values_are_one_volume_or_one_target_with_its_credentials() {
        let volume = FallbackValues { volume: VOLUME, ..FallbackValues::default() };
        let target = FallbackValues { targets: vec![URI], ..FallbackValues::default() };
        let chap =
            |values| FallbackValues { chap_user: "ann", chap_secret: "a-long-secret".into(), ..values };
        let (fallback, credentials) = volume.parse().expect("valid");
        assert_eq!((fallback.source, credentials), (FallbackSource::Volume(VOLUME.into()), None));
        let (fallback, credentials) = chap(target).parse().expect("valid");
        assert_eq!(fallback.source.key(), URI);
        assert_eq!(credentials.map(|chap| chap.username).as_deref(), Some("ann"));
        for (values, expected) in [
            (FallbackValues::default(), "either a volume or a target"),
            (FallbackValues { targets: vec![URI], ..volume_only() }, "either a volume or a target"),
            (FallbackValues { volume: "root", ..FallbackValues::default() }, "the UUID of a Cinder volume"),
            (
                FallbackValues { targets: vec!["iscsi:x"], ..FallbackValues::default() },
                "Invalid target: expected",
            ),
            (chap(volume_only()), "Cinder provides the credentials"),
            (FallbackValues { chap_user: "ann", ..volume_only() }, "The CHAP user has no secret"),
            (
                FallbackValues { chap_secret: "a-long-secret".into(), ..volume_only() },
                "The CHAP secret has no user",
            ),
            (FallbackValues { loader: "a b", ..volume_only() }, "Invalid uefi_loader"),
        ] {
            let error = values.parse().expect_err("refused").to_string();
            assert!(error.contains(expected) && !error.contains("a-long-secret"), "{error}");
        }
    }

    fn volume_only() -> FallbackValues<'static> {
        FallbackValues { volume: VOLUME, ..FallbackValues::default() }
    }

    #[test]
    fn data_volumes_are_hooked_beside_a_fallback_of_the_same_kind_only() {
        let node =
            |storage: &str| Node::new(Uuid::nil(), "d", storage.to_owned().into(), Timestamp::UNIX_EPOCH);
        let volume = Fallback::new(FallbackSource::Volume(VOLUME.into()));
        let paths = vec![URI.parse().expect("a path")];
        let target = Fallback::new(FallbackSource::Target { name: None, paths });
        for (storage, fallback, alone, with_data) in [
            ("cinder", &volume, true, true),
            ("cinder", &target, true, false),
            ("external", &target, true, true),
            ("external", &volume, true, false),
            ("noop", &volume, false, false),
        ] {
            assert_eq!(find_obstacle(&node(storage), fallback).is_none(), alone, "{storage}");
            let fallback = Fallback { with_data: true, ..fallback.clone() };
            assert_eq!(find_obstacle(&node(storage), &fallback).is_none(), with_data, "{storage}");
        }
    }
}
