//! One record of each type, as the golden files have them.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;
use volboot::model::{
    Allocation, Attachment, AttachmentState, BootOnce, Chassis, ConductorGroup, ConnectorProperties, Node,
    OnceSource, Ownership, Port, PortGroup, PowerState, Properties, ProvisionState, StorageInterface,
    VolumeConnector, VolumeTarget,
};
use volboot::store::{Attachments, Inventory, Store};

use super::NODE;
use super::boot_records::BootRecords;

const VOLUME: &str = "6f3c4a2e-1b2d-4c3e-9f40-5a6b7c8d9e0f";
const SECOND_VOLUME: &str = "7a4d5b3f-2c3e-4d4f-8a51-6b7c8d9e0f1a";

pub(super) fn properties(value: serde_json::Value) -> Properties {
    serde_json::from_value(value).expect("an object")
}

/// One record of each type, with every field set.
pub(super) struct Records {
    pub(super) chassis: Chassis,
    pub(super) node: Node,
    pub(super) port: Port,
    pub(super) group: PortGroup,
    pub(super) connector: VolumeConnector,
    pub(super) target: VolumeTarget,
    pub(super) attachment: Attachment,
    /// A target whose attachment is borrowed, since schema 2.
    pub(super) borrowed: (VolumeTarget, Attachment),
    /// Without a node, since schema 2: the instance of `node` is another one.
    pub(super) allocation: Allocation,
    /// Since schema 3.
    pub(super) once: BootOnce,
    /// What decides about the boots of a node, since schema 3.
    pub(super) boots: BootRecords,
}

impl Records {
    pub(super) fn new() -> Self {
        let now = "2026-11-24T12:00:00.5Z".parse().expect("a time");
        let id = Uuid::from_u128;
        let mut node = Node::new(NODE, "ipmi", StorageInterface::Cinder, now);
        node.updated_at = Some(now);
        node.name = Some("web-1".into());
        node.properties = properties(json!({"capabilities": "iscsi_boot:True", "cpus": 8}));
        node.driver_info = properties(json!({"ipmi_address": "192.0.2.7"}));
        node.extra = properties(json!({"rack": ["a", 1, null]}));
        node.chassis_uuid = Some(id(2));
        node.instance_uuid = Some(id(3));
        node.traits = ["CUSTOM_RACK_1", "HW_CPU_X86_VMX"].map(|name| name.parse().expect("a trait")).into();
        node.conductor_group = "rack-1".parse().expect("a group");
        node.automated_clean = Some(false);
        node.protected = true;
        node.protected_reason = Some("a database".into());
        node.owner = Some("d3f4c1b0a2".into());
        node.description = Some("the first of the row".into());
        node.target_power_state = Some(PowerState::Off);
        node.reservation = Some("boot-1".into());
        node.provision_state = ProvisionState::Active;
        node.provision_updated_at = Some(now);
        node.maintenance = true;
        node.maintenance_reason = Some("fan 3".into());
        let mut port = Port::new(id(4), NODE, "52:54:00:12:34:56".parse().expect("a MAC address"), now);
        port.physical_network = Some("physnet1".into());
        port.extra = properties(json!({"switch": "s1"}));
        let mut target = VolumeTarget::new(id(7), NODE, 0, VOLUME, now);
        target.properties = properties(json!({"target_portal": "192.0.2.1:3260", "target_lun": 1}));
        let mut attachment = Attachment::new(NODE, VOLUME, target.uuid, vec!["another".into()], now);
        attachment.id = id(8);
        attachment.state = AttachmentState::Attached;
        attachment.cinder_id = Some("0c5d7a3e-4f5a-4b6c-8d7e-9f0a1b2c3d4e".into());
        attachment.connector = Some(ConnectorProperties {
            initiator: "iqn.2017-08.org.openstack.web-1".into(),
            host: NODE.to_string(),
            ip: Some("192.0.2.50".into()),
            multipath: false,
            mountpoint: None,
        });
        attachment.connection =
            Some(properties(json!({"target_portals": ["192.0.2.1:3260", "192.0.2.2:3260"]})));
        attachment.initiator = Some("iqn.2017-08.org.openstack.web-1".into());
        attachment.resolved_at = Some(now);
        attachment.volume_type = Some("fast".into());
        let second_target = VolumeTarget::new(id(9), NODE, 1, SECOND_VOLUME, now);
        let existing = ("1d6e8b4f-5a6b-4c7d-8e9f-0a1b2c3d4e5f".into(), Ownership::Borrowed(id(3)));
        let connector = attachment.connector.clone().expect("a connector");
        let connector = ConnectorProperties { mountpoint: Some("/dev/sdb".into()), ..connector };
        let mut second =
            Attachment::of_another(NODE, SECOND_VOLUME, second_target.uuid, existing, connector, now);
        second.id = id(10);
        second.obstacle = Some("Nova does not answer".into());
        let chassis = json!({"uuid": id(2), "created_at": now, "description": "row 1", "extra": {"u": 42}});
        let group = json!({
            "uuid": id(5), "created_at": now, "node_uuid": NODE, "name": "bond", "mode": "802.3ad",
            "address": "52:54:00:12:34:57", "properties": {"miimon": 100}, "standalone_ports_supported": true,
        });
        let mut allocation = Allocation::new(id(11), "large", now);
        allocation.updated_at = Some(now);
        allocation.name = Some("db-1".into());
        allocation.traits = vec!["CUSTOM_SSD".parse().expect("a trait")];
        allocation.candidate_nodes = vec![NODE];
        allocation.extra = properties(json!({"ticket": 7}));
        allocation.last_error = Some("no available nodes".into());
        Self {
            chassis: serde_json::from_value(chassis).expect("a chassis"),
            node,
            port,
            group: serde_json::from_value(group).expect("a port group"),
            connector: VolumeConnector::new(id(6), NODE, "iqn", "iqn.2017-08.org.openstack.web-1", now),
            target,
            attachment,
            borrowed: (second_target, second),
            allocation,
            boots: BootRecords::new(),
            once: BootOnce {
                uuid: id(13),
                created_at: now,
                node_uuid: NODE,
                source: OnceSource::Volume { volume_id: "8b5e6c40-3d4f-4e50-9b62-7c8d9e0f1a2b".into() },
                with_volumes: true,
                shared: true,
                expires_at: "2026-11-24T13:00:00.5Z".parse().expect("a time"),
                journey: None,
                consumed_at: None,
                earlier_volume: Some("9c6f7d51-4e50-4f61-8c73-8d9e0f1a2b3c".into()),
            },
        }
    }

    /// The same records as the versions with schema 1 wrote them: fields that came later have their defaults.
    pub(super) fn of_schema_1() -> Self {
        let mut records = Self::new();
        let node = &mut records.node;
        node.traits.clear();
        node.conductor_group = ConductorGroup::default();
        node.automated_clean = None;
        node.target_power_state = None;
        node.reservation = None;
        node.protected = false;
        (node.protected_reason, node.owner, node.description) = (None, None, None);
        records.port.physical_network = None;
        records
    }

    pub(super) async fn write(&self, store: &Arc<dyn Store>) {
        let inventory = Inventory::new(Arc::clone(store));
        inventory.create(&self.chassis).await.expect("creates");
        inventory.create(&self.node).await.expect("creates");
        inventory.create(&self.group).await.expect("creates");
        inventory.create(&self.port).await.expect("creates");
        inventory.create(&self.connector).await.expect("creates");
        inventory.create(&self.target).await.expect("creates");
        inventory.create(&self.allocation).await.expect("creates");
        inventory.create(&self.borrowed.0).await.expect("creates");
        inventory.create(&self.once).await.expect("creates");
        let attachments = Attachments::new(Arc::clone(store));
        assert!(attachments.intend(&self.attachment).await.expect("writes"));
        assert!(attachments.intend(&self.borrowed.1).await.expect("writes"));
        self.boots.write(&inventory).await;
    }

    /// Compares with the records in a store of this schema.
    pub(super) async fn assert_in(&self, store: &Arc<dyn Store>, schema: u32) {
        let inventory = Inventory::new(Arc::clone(store));
        let node = inventory.get::<Node>(NODE).await.expect("reads").expect("exists");
        assert_eq!(node.value, self.node);
        let chassis = inventory.get::<Chassis>(self.chassis.uuid).await.expect("reads").expect("exists");
        assert_eq!(chassis.value, self.chassis);
        assert_eq!(
            inventory.find_ports(&[self.port.address]).await.expect("reads"),
            std::slice::from_ref(&self.port)
        );
        assert_eq!(
            inventory.list_all_of::<PortGroup>(NODE).await.expect("reads"),
            std::slice::from_ref(&self.group)
        );
        assert_eq!(
            inventory.list_all_of::<VolumeConnector>(NODE).await.expect("reads"),
            std::slice::from_ref(&self.connector)
        );
        let mut targets = vec![self.target.clone()];
        let mut attachments = vec![self.attachment.clone()];
        if schema >= 2 {
            targets.push(self.borrowed.0.clone());
            attachments.push(self.borrowed.1.clone());
        }
        assert_eq!(inventory.list_all_of::<VolumeTarget>(NODE).await.expect("reads"), targets);
        let read = Attachments::new(Arc::clone(store)).list_by_node(NODE).await.expect("reads");
        assert_eq!(read, attachments);
        let allocations = inventory.list::<Allocation>(None, 9).await.expect("lists");
        let allocations: Vec<_> = allocations.into_iter().map(|record| record.value).collect();
        assert_eq!(allocations, if schema >= 2 { vec![self.allocation.clone()] } else { Vec::new() });
        let once = inventory.find_boot_once(NODE).await.expect("reads");
        assert_eq!(once, (schema >= 3).then(|| self.once.clone()));
        if schema >= 3 {
            self.boots.assert_in(&inventory).await;
        }
    }
}
