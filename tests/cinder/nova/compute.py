"""Nova's compute service for one bare-metal instance that boots from a volume.

Nova's own code runs: its driver for Ironic, its block devices and its client of Cinder. Only Nova's database and
placement are missing: records are objects in memory. Each line of the input names a step; each line of the output is the
step's result as JSON.
"""

import base64
import contextlib
import json
import os
import sys
import traceback

from nova import monkey_patch

monkey_patch.patch(backend="threading")

import os_brick  # noqa: E402
from keystoneauth1 import session  # noqa: E402
from keystoneauth1.identity import v3  # noqa: E402

import nova.conf  # noqa: E402
from nova import context as nova_context  # noqa: E402
from nova import exception, objects  # noqa: E402
from nova.compute import power_state, provider_tree  # noqa: E402
from nova.network import model as network_model  # noqa: E402
from nova.virt import block_device as driver_block_device  # noqa: E402
from nova.virt import driver as virt_driver  # noqa: E402
from nova.virt.ironic import driver as ironic_driver  # noqa: E402
from nova.volume import cinder  # noqa: E402

CONF = nova.conf.CONF
KEYSTONE = "http://127.0.0.1:5000/v3"
DEVICE = "/dev/sda"
# As large as the config drive of an instance with several megabytes of user data.
CONFIG_DRIVE_BYTES = 4 << 20
# The server's port in the tenant's network. Nova sends its address as the host, unless the node has an `ip` connector.
VIF = "9d3f0d7e-6a0b-4f5e-9a51-0d2f6c1b7a10"
SECOND_VIF = "9d3f0d7e-6a0b-4f5e-9a51-0d2f6c1b7a11"
TENANT_ADDRESS = "10.99.0.77"


class MissingDatabase:
    """The records that Nova's code reads from its database."""

    instances = set()

    @classmethod
    def replace(cls):
        objects.ServiceList.get_all_computes_by_hv_type = lambda *_: []
        objects.InstanceList.get_uuids_by_host = lambda *_: cls.instances
        for record in (objects.Instance, objects.BlockDeviceMapping):
            record.save = lambda self, *_, **__: self.obj_reset_changes()
        objects.Instance.refresh = lambda *_, **__: None
        # The content of the config drive is from the database too.
        ironic_driver.IronicDriver._generate_configdrive = (
            lambda *_, **__: base64.b64encode(os.urandom(CONFIG_DRIVE_BYTES)).decode()
        )


def log_in(user, project):
    """The context of a user's request, as Nova's API makes one from the user's token."""
    auth = v3.Password(
        auth_url=KEYSTONE, username=user, password="lab-secret", user_domain_id="default",
        project_name=project, project_domain_id="default",
    )
    access = auth.get_access(session.Session())
    return nova_context.RequestContext(
        user_id=access.user_id, project_id=access.project_id, auth_token=access.auth_token, is_admin=False,
        service_catalog=[
            {"type": service["type"], "endpoints": [
                {"region": endpoint["region"], f"{endpoint['interface']}URL": endpoint["url"]}
                for endpoint in service["endpoints"]
            ]}
            for service in access.service_catalog.catalog
        ],
    )


def network_info(vif, address):
    subnet = network_model.Subnet(cidr="10.99.0.0/24", ips=[network_model.FixedIP(address=address)])
    network = network_model.Network(id="1d1f0d7e-6a0b-4f5e-9a51-0d2f6c1b7a12", subnets=[subnet])
    return network_model.NetworkInfo([network_model.VIF(id=vif, address="52:54:00:12:34:56", network=network)])


class Compute:
    """The compute service and its instance."""

    def __init__(self, node, volume, server):
        self.context = log_in("volboot", "boot")
        self.node, self.volume = node, volume
        self.volumes = cinder.API()
        self.network_info = network_info(VIF, TENANT_ADDRESS)
        flavor = objects.Flavor(
            name="metal", flavorid="metal", memory_mb=1024, vcpus=1, root_gb=1, ephemeral_gb=0, swap=0,
            extra_specs={"resources:CUSTOM_BAREMETAL": "1", "trait:CUSTOM_BFV": "required"},
        )
        self.instance = objects.Instance(
            self.context, uuid=server, id=1, node=node, host=CONF.host, flavor=flavor, display_name="Web 1",
            hostname="web-1", image_ref="", user_id=self.context.user_id, project_id=self.context.project_id,
            system_metadata={}, metadata={}, vm_state="building", task_state="spawning", config_drive="True",
            root_device_name=DEVICE, availability_zone=None, os_type=None, launched_at=None,
            info_cache=objects.InstanceInfoCache(self.context, network_info=self.network_info),
        )
        self.bdm = objects.BlockDeviceMapping(
            self.context, id=1, instance_uuid=server, source_type="volume", destination_type="volume",
            boot_index=0, device_name=DEVICE, volume_id=volume, volume_size=1, delete_on_termination=False,
            connection_info=None, attachment_id=None, guest_format=None, device_type=None, disk_bus=None,
            volume_type=None, tag=None, no_device=False, snapshot_id=None, image_id=None,
        )
        self.image = objects.ImageMeta.from_dict({})
        self.tree = provider_tree.ProviderTree()
        self.tree.new_root(node, node, generation=0)
        self.block_devices = None
        self.driver = None

    # The inventory.

    def connect(self):
        self.driver = ironic_driver.IronicDriver(None)
        api = self.driver.ironic_connection
        return api.get_endpoint_data().max_microversion

    def init_host(self):
        self.driver.init_host(CONF.host)

    def get_available_nodes(self):
        nodes = self.driver.get_available_nodes(refresh=True)
        assert nodes == [self.node], nodes
        assert self.driver.get_nodenames_by_uuid() == {self.node: self.node}

    def node_is_available(self):
        assert self.driver.node_is_available(self.node)
        assert not self.driver.node_is_available("00000000-0000-4000-8000-000000000000")
        assert not self.driver.is_node_deleted(self.node)

    def get_available_resource(self):
        resource = self.driver.get_available_resource(self.node)
        assert resource["hypervisor_hostname"] == self.node, resource
        assert resource["resource_class"] == "baremetal", resource
        assert resource["stats"]["iscsi_boot"] == "True", resource
        assert [str(part) for part in resource["supported_instances"][0]] == ["x86_64", "baremetal", "hvm"]

    def update_provider_tree(self):
        inventory = self.read_inventory()
        assert inventory["total"] == 1 and inventory["reserved"] == 0, inventory
        traits = self.tree.data(self.node).traits
        assert traits == {"CUSTOM_BFV", "HW_CPU_X86_VMX"}, traits

    def read_inventory(self):
        self.driver.get_available_nodes(refresh=True)
        self.driver.update_provider_tree(self.tree, self.node)
        return self.tree.data(self.node).inventory["CUSTOM_BAREMETAL"]

    # The deployment.

    def prepare_for_spawn(self):
        self.driver.prepare_for_spawn(self.instance)
        MissingDatabase.instances.add(self.instance.uuid)

    def prepare_networks(self):
        self.driver.prepare_networks_before_block_device_mapping(self.instance, self.network_info)

    def get_volume_connector(self):
        connector = self.driver.get_volume_connector(self.instance)
        assert connector["initiator"] == "iqn.2026-01.lab.volboot:node-0", connector
        assert connector["os_type"] == "baremetal", connector
        return connector["host"]

    def reserve_volume(self):
        self.bdm.attachment_id = self.volumes.attachment_create(
            self.context, self.volume, self.instance.uuid)["id"]
        return self.bdm.attachment_id

    def attach_block_devices(self):
        devices = virt_driver.get_block_device_info(self.instance, [self.bdm])
        driver_block_device.attach_block_devices(
            virt_driver.block_device_info_get_mapping(devices), self.context, self.instance, self.volumes, self.driver)
        self.block_devices = devices

    def spawn(self):
        self.driver.spawn(
            self.context, self.instance, self.image, injected_files=[], admin_password="secret", allocations={},
            network_info=self.network_info, block_device_info=self.block_devices)
        self.instance.vm_state, self.instance.task_state = "active", None

    # The running instance.

    def instance_exists(self):
        assert self.driver.instance_exists(self.instance)

    def list_instance_uuids(self):
        self.driver.get_available_nodes(refresh=True)
        assert self.driver.list_instance_uuids() == [self.instance.uuid]
        assert self.driver.get_num_instances() == 1

    def inventory_is_reserved(self):
        inventory = self.read_inventory()
        assert inventory["reserved"] == 1, inventory

    def expect_power(self, expected):
        state = self.driver.get_info(self.instance, use_cache=False).state
        assert state == expected, power_state.STATE_MAP[state]

    def is_running(self):
        self.expect_power(power_state.RUNNING)

    def is_shut_down(self):
        self.expect_power(power_state.SHUTDOWN)

    def reboot(self):
        self.driver.reboot(self.context, self.instance, self.network_info, "HARD")

    def reboot_soft(self):
        self.driver.reboot(self.context, self.instance, self.network_info, "SOFT")

    def power_off(self):
        self.driver.power_off(self.instance)

    def power_off_soft(self):
        self.driver.power_off(self.instance, timeout=2)

    def power_on(self):
        self.driver.power_on(self.context, self.instance, self.network_info)

    def attach_interface(self):
        self.driver.attach_interface(self.context, self.instance, self.image, network_info(SECOND_VIF, "10.99.0.78")[0])

    def detach_interface(self):
        self.driver.detach_interface(self.context, self.instance, network_info(SECOND_VIF, "10.99.0.78")[0])

    def trigger_crash_dump(self):
        self.driver.trigger_crash_dump(self.instance)

    def get_serial_console(self):
        self.driver.get_serial_console(self.context, self.instance)

    def rescue(self):
        self.driver.rescue(self.context, self.instance, self.network_info, self.image, "secret", None, None)

    # The end.

    def destroy(self):
        self.driver.destroy(self.context, self.instance, self.network_info, self.block_devices)
        MissingDatabase.instances.clear()

    def node_is_clean(self):
        """Nothing of the instance is left on the node."""
        api = self.driver.ironic_connection
        assert not list(api.volume_targets(details=True, node=self.node))
        node = api.get_node(self.node)
        assert node.instance_id is None and node.instance_info == {}, node
        assert node.provision_state == "available" and node.power_state == "power off", node

    def instance_is_gone(self):
        assert not self.driver.instance_exists(self.instance)
        self.driver.get_available_nodes(refresh=True)
        assert self.driver.list_instance_uuids() == []

    def delete_attachment(self):
        """As Nova's compute manager, after the driver has destroyed the instance."""
        self.volumes.attachment_delete(self.context, self.bdm.attachment_id)

    def inventory_is_available(self):
        inventory = self.read_inventory()
        assert inventory["reserved"] == 0, inventory


def main():
    config, node, volume, server = sys.argv[1:]
    CONF(["--config-file", config], project="nova", default_config_files=[])
    objects.register_all()
    os_brick.setup(CONF)
    MissingDatabase.replace()
    compute = Compute(node, volume, server)
    # Nova's code must not write between the results.
    results = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        for line in sys.stdin:
            try:
                result = {"ok": True, "value": getattr(compute, line.strip())()}
            except Exception as error:
                traceback.print_exc()
                result = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            print(json.dumps(result), file=results, flush=True)


main()
