"""Tests volboot with openstacksdk: every method of the `baremetal` proxy for volboot's features.

Each step is an assertion; the first failure ends the script with a traceback.
"""

import base64
import os
import sys

import openstack
from openstack import exceptions

ENDPOINT = sys.argv[1]


def connect():
    """Connects without Keystone, as with an entry of `clouds.yaml`."""
    return openstack.connection.Connection(
        auth_type="none",
        auth={"endpoint": ENDPOINT},
        baremetal_endpoint_override=ENDPOINT,
    ).baremetal


def expect_error(error, function, *arguments, **named):
    """Calls a function that must raise the exception, and returns the message."""
    try:
        function(*arguments, **named)
    except error as exception:
        return str(exception)
    raise AssertionError(f"{function.__name__}{arguments} raised no {error.__name__}")


def test_chassis(api):
    rack = api.create_chassis(description="rack", extra={"row": 1})
    assert [record.id for record in api.chassis()] == [rack.id]
    assert [record.extra for record in api.chassis(details=True)] == [{"row": 1}]
    assert api.find_chassis(rack.id).id == rack.id
    assert api.update_chassis(rack, description="row").description == "row"
    assert api.patch_chassis(rack, [{"op": "remove", "path": "/extra"}]).extra == {}
    assert api.get_chassis(rack.id, fields=["description"]).description == "row"
    api.delete_chassis(rack)
    assert api.find_chassis(rack.id) is None


def test_drivers(api):
    names = [driver.name for driver in api.drivers()]
    assert names == ["fake-hardware", "manual-management", "redfish"], names
    for driver in api.drivers(details=True):
        assert driver.hosts, driver
    driver = api.get_driver("fake-hardware")
    for kind in ("boot", "deploy", "management", "power"):
        assert driver[f"default_{kind}_interface"] == "fake", kind
        assert driver[f"enabled_{kind}_interfaces"] == ["fake"], kind
    assert "external" in driver.enabled_storage_interfaces
    assert api.list_driver_vendor_passthru("fake-hardware") == {}
    expect_error(exceptions.NotFoundException, api.get_driver, "none")


def test_ports(api, node):
    port = api.create_port(node_id=node.id, address="52:54:00:AB:CD:EF", extra={"slot": 1})
    assert port.address == "52:54:00:ab:cd:ef" and port.is_pxe_enabled is True
    assert [record.id for record in api.ports(address="52:54:00:ab:cd:ef")] == [port.id]
    assert [record.id for record in api.ports(node_id=node.id)] == [port.id]
    assert [record.node_id for record in api.ports(details=True)] == [node.id]
    assert api.find_port(port.id).id == port.id
    assert api.get_port(port.id, fields=["extra"]).extra == {"slot": 1}
    assert api.update_port(port, is_pxe_enabled=False).is_pxe_enabled is False
    group = api.create_port_group(node_id=node.id, name="bond0", address="52:54:00:ab:cd:00", mode="802.3ad")
    assert group.mode == "802.3ad"
    assert [record.id for record in api.port_groups()] == [group.id]
    assert [record.id for record in api.port_groups(node=node.id)] == [group.id]
    assert [record.mode for record in api.port_groups(details=True)] == ["802.3ad"]
    assert api.find_port_group("bond0").id == group.id
    assert api.update_port_group(group, name="bond1").name == "bond1"
    assert api.patch_port_group(group, [{"op": "remove", "path": "/address"}]).address is None
    assert api.patch_port(port, [{"op": "add", "path": "/portgroup_uuid", "value": group.id}]).port_group_id == group.id
    expect_error(exceptions.BadRequestException, api.delete_port_group, group)
    api.delete_port(port)
    api.delete_port_group(group)
    assert list(api.ports()) == list(api.port_groups()) == []


def test_volumes(api, node):
    connector = api.create_volume_connector(node_id=node.id, type="iqn", connector_id="iqn.2017-08.org.openstack.n1")
    target = api.create_volume_target(
        node_id=node.id,
        volume_type="iscsi",
        volume_id="disk-1",
        boot_index=0,
        properties={
            "target_portal": "192.0.2.1:3260",
            "target_iqn": "iqn.2010-10.org.openstack:disk-1",
            "target_lun": 1,
            "auth_username": "boot",
            "auth_password": "hunter2",
        },
    )
    assert target.properties["auth_password"] == "******"
    for find, record in ((api.find_volume_connector, connector), (api.find_volume_target, target)):
        assert find(record.id).id == record.id
    assert [record.id for record in api.volume_connectors(node=node.name)] == [connector.id]
    assert [record.id for record in api.volume_targets(node=node.id)] == [target.id]
    assert [record.extra for record in api.volume_connectors(details=True)] == [{}]
    assert [record.boot_index for record in api.volume_targets(details=True)] == [0]
    assert api.get_volume_target(target.id, fields=["volume_id"]).volume_id == "disk-1"
    assert api.get_volume_connector(connector.id, fields=["type"]).type == "iqn"
    assert api.update_volume_target(target, extra={"a": 1}).extra == {"a": 1}
    assert api.patch_volume_target(target, [{"op": "remove", "path": "/extra"}]).extra == {}
    assert api.update_volume_connector(connector, extra={"a": 1}).extra == {"a": 1}
    assert api.patch_volume_connector(connector, [{"op": "remove", "path": "/extra"}]).extra == {}
    expect_error(exceptions.ConflictException, api.create_volume_target, node_id=node.id, volume_type="iscsi",
                 volume_id="disk-2", boot_index=0)
    return connector, target


def test_nodes(api):
    node = api.create_node(
        name="n1",
        driver="fake-hardware",
        storage_interface="external",
        properties={"capabilities": "iscsi_boot:True"},
        driver_info={"password": "hunter2"},
    )
    assert node.provision_state == "enroll" and node.power_state is None and node.driver_info["password"] == "******"
    assert [record.name for record in api.nodes()] == ["n1"]
    assert [record.driver for record in api.nodes(details=True)] == ["fake-hardware"]
    assert [record.name for record in api.nodes(fields=["name"])] == ["n1"]
    assert list(api.nodes(associated=True)) == list(api.nodes(maintenance=True)) == []
    assert api.find_node("n1").id == api.get_node(node.id).id == node.id
    assert api.update_node(node, extra={"rack": 12}).extra == {"rack": 12}
    assert api.patch_node(node, [{"op": "remove", "path": "/extra"}]).extra == {}
    node = api.set_node_maintenance(node, reason="disk")
    assert node.is_maintenance and node.maintenance_reason == "disk"
    assert not api.unset_node_maintenance(node).is_maintenance
    test_ports(api, node)
    node = api.set_node_provision_state(node, "manage", wait=True, timeout=30)
    assert node.power_state == "power off"
    message = expect_error(exceptions.ValidationException, api.validate_node, node, required=("storage",))
    assert "no volume target has boot index 0" in message, message
    connector, target = test_volumes(api, node)
    for interface in ("boot", "deploy", "management", "power", "storage"):
        assert api.validate_node(node)[interface].result, interface
    assert api.get_node_boot_device(node)["boot_device"] == "pxe"
    api.set_node_boot_device(node, "pxe")
    assert api.get_node_supported_boot_devices(node)["supported_boot_devices"] == ["pxe"]
    assert api.list_node_vifs(node) == []
    api.attach_vif_to_node(node, "04452bed-5367-4202-8bf5-de4335ac56d2")
    api.detach_vif_from_node(node, "04452bed-5367-4202-8bf5-de4335ac56d2")
    assert api.list_node_vendor_passthru(node) == {}
    expect_error(exceptions.BadRequestException, api.inject_nmi_to_node, node)
    node = api.set_node_provision_state(node, "provide", wait=True, timeout=30)
    drive = base64.b64encode(os.urandom(3 << 20)).decode()
    node = api.set_node_provision_state(node, "active", config_drive=drive, wait=True, timeout=30)
    assert node.provision_state == "active" and node.instance_info == {"configdrive": "******"}
    error = expect_error(exceptions.BadRequestException, api.set_node_provision_state, node, "active")
    assert "while it is in state" in error, error
    api.wait_for_nodes_provision_state([node], "active", timeout=30)
    api.wait_for_node_reservation(node, timeout=30)
    api.wait_for_node_power_state(node, "power on", timeout=30)
    expect_error(exceptions.ConflictException, api.delete_node, node)
    node = api.set_node_provision_state(node, "deleted", wait=True, timeout=30)
    assert list(api.volume_targets()) == []
    api.wait_for_node_power_state(node, "power off", timeout=30)
    api.delete_volume_connector(connector)
    assert api.find_volume_target(target.id) is None
    api.delete_node(node)
    assert api.find_node("n1") is None


def test_conductors(api):
    """volboot is the only conductor."""
    [conductor] = api.conductors()
    assert conductor.alive and conductor.conductor_group == ""
    assert api.get_conductor(conductor.hostname).drivers == ["fake-hardware", "manual-management", "redfish"]
    # With `details=True`, openstacksdk 4.22 sends an argument that neither Ironic nor volboot knows.
    assert [record.drivers for record in api.conductors(detail=True)] == [["fake-hardware", "manual-management", "redfish"]]
    assert api.get_driver("fake-hardware").hosts == [conductor.hostname]


def test_allocations(api):
    node = api.create_node(name="n1", driver="fake-hardware", resource_class="large")
    api.set_node_provision_state(node, "manage", wait=True, timeout=30)
    api.set_node_provision_state(node, "provide", wait=True, timeout=30)
    api.set_node_power_state(node, "power off", wait=True, timeout=30)
    api.add_node_trait(node, "CUSTOM_SSD")
    allocation = api.create_allocation(
        name="web", resource_class="large", traits=["CUSTOM_SSD"], candidate_nodes=["n1"], extra={"a": 1}
    )
    assert allocation.state == "allocating" and allocation.node_id is None and allocation.candidate_nodes == [node.id]
    allocation = api.wait_for_allocation(allocation, timeout=30)
    assert allocation.state == "active" and allocation.node_id == node.id and allocation.extra == {"a": 1}
    assert api.get_node(node.id).allocation_id == api.get_allocation("web").id == allocation.id
    failed = api.create_allocation(resource_class="large")
    message = expect_error(exceptions.SDKException, api.wait_for_allocation, failed, timeout=30)
    assert "no available nodes match the resource class large" in message, message
    assert [record.id for record in api.allocations(node="n1")] == [allocation.id]
    assert [record.id for record in api.allocations(state="error", fields=["uuid"])] == [failed.id]
    api.delete_allocation(failed)
    api.delete_allocation("web", ignore_missing=False)
    assert list(api.allocations()) == []
    assert api.get_node(node.id).instance_id is None
    api.delete_node(node)


def test_pagination(api):
    """Lists span several pages; the SDK follows `next` to the last page."""
    nodes = [api.create_node(name=f"page-{number}", driver="fake-hardware") for number in range(5)]
    assert [node.name for node in api.nodes(limit=2, sort_key="name")] == [node.name for node in nodes]
    for node in nodes:
        api.delete_node(node)


api = connect()
test_drivers(api)
test_chassis(api)
test_nodes(api)
test_conductors(api)
test_allocations(api)
test_pagination(api)
