//! [`Promotion`]: a node's boot volume and its fallback change places for good.

use super::fallback::connection_properties;
use super::{
    Chap, Connection, Fallback, FallbackError, FallbackSecret, FallbackSource, LoaderPath, Node, Properties,
    StorageInterface, VolumeTarget,
};

/// The properties of a volume target that belong to its volume, and go with it.
const VOLUME_PROPERTIES: [&str; 11] = [
    "target_portal",
    "target_portals",
    "target_iqn",
    "target_iqns",
    "target_lun",
    "target_luns",
    "addressing_mode",
    "auth_method",
    "auth_username",
    "auth_password",
    LOADER,
];
const LOADER: &str = "uefi_loader";

/// The records after a promotion.
#[derive(Debug, Clone, PartialEq)]
pub struct Promotion {
    /// The node, whose fallback is the former boot volume.
    pub node: Node,
    /// The boot target, with the former fallback.
    pub target: VolumeTarget,
    /// The CHAP credentials of the former boot volume.
    pub secret: Option<FallbackSecret>,
}

/// The volumes cannot change places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromotionError {
    /// The node has no fallback.
    #[error("it has no fallback")]
    NoFallback,
    /// The node has no volume target with boot index 0.
    #[error("it has no boot volume")]
    NoBootVolume,
    /// The node's fallback is invalid.
    #[error(transparent)]
    Invalid(#[from] FallbackError),
    /// A volume target of the node cannot be what the fallback is.
    #[error("its fallback is {0}, which cannot be a volume target with storage interface {1}")]
    OtherInterface(&'static str, String),
    /// A property of the boot target is invalid.
    #[error("its boot target cannot become a fallback: properties/{0}")]
    Property(String),
}

impl Promotion {
    /// Exchanges the volume of the boot target with that of the fallback.
    pub fn of(
        node: &Node,
        target: &VolumeTarget,
        secret: Option<&FallbackSecret>,
    ) -> Result<Self, PromotionError> {
        let fallback = Fallback::of(node)?.ok_or(PromotionError::NoFallback)?;
        let property = |error: &dyn std::fmt::Display| PromotionError::Property(error.to_string());
        let loader: Option<LoaderPath> =
            target.properties.text(LOADER).map(str::parse).transpose().map_err(|error| property(&error))?;
        let old = Connection::from_record(&target.properties);
        let (source, connection, chap) = match (&node.storage_interface, &fallback.source) {
            (StorageInterface::Cinder, FallbackSource::Volume(_)) => {
                (FallbackSource::Volume(target.volume_id.clone()), Properties::default(), None)
            }
            (StorageInterface::External, FallbackSource::Target { paths, .. }) => {
                let secret = secret.filter(|secret| secret.target == fallback.source.key());
                let connection = connection_properties(paths, secret.map(|secret| &secret.chap));
                let old = old.map_err(|error| property(&error))?;
                let first = old.paths.first().map(|path| path.target.as_str());
                let name = (first != Some(target.volume_id.as_str())).then(|| target.volume_id.clone());
                (FallbackSource::Target { name, paths: old.paths }, connection, old.chap)
            }
            (interface, FallbackSource::Volume(_)) => {
                return Err(PromotionError::OtherInterface("a Cinder volume", interface.to_string()));
            }
            (interface, FallbackSource::Target { .. }) => {
                return Err(PromotionError::OtherInterface("a fixed target", interface.to_string()));
            }
        };
        let mut properties = VOLUME_PROPERTIES
            .into_iter()
            .fold(target.properties.clone(), Properties::without)
            .reveal()
            .clone();
        properties.extend(connection.reveal().clone());
        let properties = Properties::from(properties);
        let properties = match &fallback.loader {
            Some(loader) => properties.with_text(LOADER, &loader.to_string()),
            None => properties,
        };
        let secret = chap.map(|chap: Chap| FallbackSecret { target: source.key(), chap });
        let volume_id = fallback.source.name();
        let new = Fallback { source, loader, ..fallback };
        // What was written must be readable: a name of a boot target may be too long for a fallback.
        let node = Fallback::write(Some(&new), node.clone());
        Fallback::of(&node)?;
        Ok(Self { node, target: VolumeTarget { volume_id, properties, ..target.clone() }, secret })
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn records(storage: &str, fallback: &Value, volume: &str, properties: &Value) -> (Node, VolumeTarget) {
        let now = Timestamp::UNIX_EPOCH;
        let node = Node::new(Uuid::from_u128(1), "d", storage.to_owned().into(), now);
        let extra = serde_json::from_value(json!({"rack": 7, "volboot": {"fallback": fallback}}));
        let target = VolumeTarget::new(Uuid::from_u128(2), node.uuid, 0, volume, now);
        let properties = serde_json::from_value(properties.clone()).expect("an object");
        (Node { extra: extra.expect("an object"), ..node }, VolumeTarget { properties, ..target })
    }

    fn promote((node, target): &(Node, VolumeTarget), secret: Option<&FallbackSecret>) -> Promotion {
        Promotion::of(node, target, secret).expect("promotes")
    }

    #[test]
    fn two_promotions_of_cinder_volumes_change_nothing() {
        let loader = "\\EFI\\debian\\shimx64.efi";
        let fallback = json!({"volume": "spare", "with_data": true});
        let before =
            records("cinder", &fallback, "root", &json!({"uefi_loader": loader, "access_mode": "rw"}));
        let Promotion { node, target, secret } = promote(&before, None);
        let fallback = json!({"volume": "root", "with_data": true, "uefi_loader": loader});
        assert_eq!(node.extra.get("volboot").expect("kept")["fallback"], fallback);
        assert_eq!(target.volume_id, "spare");
        assert_eq!(Value::Object(target.properties.reveal().clone()), json!({"access_mode": "rw"}));
        assert_eq!(secret, None);
        let Promotion { node, target, .. } = promote(&(node, target), None);
        assert_eq!((node, target), before);
    }

    #[test]
    fn two_promotions_of_fixed_targets_change_nothing_and_move_the_secrets() {
        let uri = "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.example:spare";
        let properties = json!({
            "target_portals": ["192.0.2.1:3260", "192.0.2.2:3260"],
            "target_iqns": ["iqn.2010-10.org.example:root", "iqn.2010-10.org.example:root"],
            "target_luns": [1, 300], "auth_method": "CHAP", "auth_username": "ann", "auth_password": "a-long-secret",
        });
        let before = records("external", &json!({"target": uri}), "root disk", &properties);
        let chap = Chap { username: "bob".into(), password: "another-secret".into() };
        let own = FallbackSecret { target: uri.into(), chap: chap.clone() };
        let Promotion { node, target, secret } = promote(&before, Some(&own));
        assert!(!format!("{:?}", node.extra.reveal()).contains("a-long-secret"));
        assert_eq!(target.volume_id, "iqn.2010-10.org.example:spare");
        let connection = Connection::from_record(&target.properties).expect("a connection");
        assert_eq!((connection.paths[0].to_string(), connection.chap), (uri.into(), Some(chap)));
        let secret = secret.expect("the secret of the former boot volume");
        let fallback = Fallback::of(&node).expect("valid").expect("a fallback");
        assert_eq!(
            (fallback.source.name(), fallback.source.key()),
            ("root disk".into(), secret.target.clone())
        );
        let Promotion { node, target, secret } = promote(&(node, target), Some(&secret));
        assert_eq!((&node, &target), (&before.0, &before.1));
        assert_eq!(secret, Some(own));
    }

    #[test]
    fn volumes_that_cannot_change_places_are_refused() {
        let uri = json!({"target": "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.example:spare"});
        for (storage, fallback, expected) in [
            (
                "cinder",
                uri.clone(),
                "a fixed target, which cannot be a volume target with storage interface cinder",
            ),
            ("external", json!({"volume": "v"}), "a Cinder volume, which cannot be"),
            ("external", uri, "its boot target cannot become a fallback: properties/target_portal"),
            ("cinder", json!(null), "it has no fallback"),
            ("cinder", json!({"volume": 7}), "extra/volboot/fallback/volume"),
        ] {
            let (node, target) = records(storage, &fallback, "root", &json!({}));
            let error = Promotion::of(&node, &target, None).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
