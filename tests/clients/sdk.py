"""Works with volboot through openstacksdk, by every method of its `baremetal` proxy for what volboot has.

Each step is an assertion, so the first that fails ends the script and shows itself.
"""

import sys

import openstack
from openstack import exceptions

ENDPOINT = sys.argv[1]


def connect():
    """A connection without Keystone, as `clouds.yaml` would describe it."""
    return openstack.connection.Connection(
        auth_type="none",
        auth={"endpoint": ENDPOINT},
        baremetal_endpoint_override=ENDPOINT,
    ).baremetal


def refused(error, function, *arguments, **named):
    """The message of an exception that must come."""
    try:
        function(*arguments, **named)
    except error as exception:
        return str(exception)
    raise AssertionError(f"{function.__name__}{arguments} was not refused")


def chassis(api):
    one = api.create_chassis(description="rack", extra={"row": 1})
    assert [found.id for found in api.chassis()] == [one.id]
    assert [found.extra for found in api.chassis(details=True)] == [{"row": 1}]
    assert api.find_chassis(one.id).id == one.id
    assert api.update_chassis(one, description="row").description == "row"
    assert api.patch_chassis(one, [{"op": "remove", "path": "/extra"}]).extra == {}
    assert api.get_chassis(one.id, fields=["description"]).description == "row"
    api.delete_chassis(one)
    assert api.find_chassis(one.id) is None


def drivers(api):
    names = [driver.name for driver in api.drivers()]
    assert names == ["fake-hardware", "manual-management"], names
    for driver in api.drivers(details=True):
        assert driver.hosts, driver
    driver = api.get_driver("fake-hardware")
    for kind in ("boot", "deploy", "management", "power"):
        assert driver[f"default_{kind}_interface"] == "fake", kind
        assert driver[f"enabled_{kind}_interfaces"] == ["fake"], kind
    assert "external" in driver.enabled_storage_interfaces
    assert api.list_driver_vendor_passthru("fake-hardware") == {}
    refused(exceptions.NotFoundException, api.get_driver, "none")


def ports(api, node):
    port = api.create_port(node_id=node.id, address="52:54:00:AB:CD:EF", extra={"slot": 1})
    assert port.address == "52:54:00:ab:cd:ef" and port.is_pxe_enabled is True
    assert [found.id for found in api.ports(address="52:54:00:ab:cd:ef")] == [port.id]
    assert [found.id for found in api.ports(node_id=node.id)] == [port.id]
    assert [found.node_id for found in api.ports(details=True)] == [node.id]
    assert api.find_port(port.id).id == port.id
    assert api.get_port(port.id, fields=["extra"]).extra == {"slot": 1}
    assert api.update_port(port, is_pxe_enabled=False).is_pxe_enabled is False
    group = api.create_port_group(node_id=node.id, name="bond0", address="52:54:00:ab:cd:00", mode="802.3ad")
    assert group.mode == "802.3ad"
    assert [found.id for found in api.port_groups()] == [group.id]
    assert [found.id for found in api.port_groups(node=node.id)] == [group.id]
    assert [found.mode for found in api.port_groups(details=True)] == ["802.3ad"]
    assert api.find_port_group("bond0").id == group.id
    assert api.update_port_group(group, name="bond1").name == "bond1"
    assert api.patch_port_group(group, [{"op": "remove", "path": "/address"}]).address is None
    assert api.patch_port(port, [{"op": "add", "path": "/portgroup_uuid", "value": group.id}]).port_group_id == group.id
    refused(exceptions.BadRequestException, api.delete_port_group, group)
    api.delete_port(port)
    api.delete_port_group(group)
    assert list(api.ports()) == list(api.port_groups()) == []


def volumes(api, node):
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
    for find, each in ((api.find_volume_connector, connector), (api.find_volume_target, target)):
        assert find(each.id).id == each.id
    assert [found.id for found in api.volume_connectors(node=node.name)] == [connector.id]
    assert [found.id for found in api.volume_targets(node=node.id)] == [target.id]
    assert [found.extra for found in api.volume_connectors(details=True)] == [{}]
    assert [found.boot_index for found in api.volume_targets(details=True)] == [0]
    assert api.get_volume_target(target.id, fields=["volume_id"]).volume_id == "disk-1"
    assert api.get_volume_connector(connector.id, fields=["type"]).type == "iqn"
    assert api.update_volume_target(target, extra={"a": 1}).extra == {"a": 1}
    assert api.patch_volume_target(target, [{"op": "remove", "path": "/extra"}]).extra == {}
    assert api.update_volume_connector(connector, extra={"a": 1}).extra == {"a": 1}
    assert api.patch_volume_connector(connector, [{"op": "remove", "path": "/extra"}]).extra == {}
    refused(exceptions.ConflictException, api.create_volume_target, node_id=node.id, volume_type="iscsi",
            volume_id="disk-2", boot_index=0)
    return connector, target


def nodes(api):
    node = api.create_node(
        name="n1",
        driver="fake-hardware",
        storage_interface="external",
        properties={"capabilities": "iscsi_boot:True"},
        driver_info={"password": "hunter2"},
    )
    assert node.provision_state == "enroll" and node.power_state is None and node.driver_info["password"] == "******"
    assert [found.name for found in api.nodes()] == ["n1"]
    assert [found.driver for found in api.nodes(details=True)] == ["fake-hardware"]
    assert [found.name for found in api.nodes(fields=["name"])] == ["n1"]
    assert list(api.nodes(associated=True)) == list(api.nodes(maintenance=True)) == []
    assert api.find_node("n1").id == api.get_node(node.id).id == node.id
    assert api.update_node(node, extra={"rack": 12}).extra == {"rack": 12}
    assert api.patch_node(node, [{"op": "remove", "path": "/extra"}]).extra == {}
    node = api.set_node_maintenance(node, reason="disk")
    assert node.is_maintenance and node.maintenance_reason == "disk"
    assert not api.unset_node_maintenance(node).is_maintenance
    ports(api, node)
    node = api.set_node_provision_state(node, "manage", wait=True, timeout=30)
    api.set_node_power_state(node, "power off", wait=True, timeout=30)
    message = refused(exceptions.ValidationException, api.validate_node, node, required=("storage",))
    assert "no volume target with boot index 0" in message, message
    connector, target = volumes(api, node)
    for interface in ("boot", "deploy", "management", "power", "storage"):
        assert api.validate_node(node)[interface].result, interface
    assert api.get_node_boot_device(node)["boot_device"] == "pxe"
    api.set_node_boot_device(node, "pxe")
    assert api.get_node_supported_boot_devices(node)["supported_boot_devices"] == ["pxe"]
    assert api.list_node_vifs(node) == []
    api.attach_vif_to_node(node, "04452bed-5367-4202-8bf5-de4335ac56d2")
    api.detach_vif_from_node(node, "04452bed-5367-4202-8bf5-de4335ac56d2")
    assert api.list_node_vendor_passthru(node) == {}
    refused(exceptions.BadRequestException, api.inject_nmi_to_node, node)
    node = api.set_node_provision_state(node, "provide", wait=True, timeout=30)
    node = api.set_node_provision_state(node, "active", wait=True, timeout=30)
    assert node.provision_state == "active"
    api.wait_for_nodes_provision_state([node], "active", timeout=30)
    api.wait_for_node_reservation(node, timeout=30)
    api.wait_for_node_power_state(node, "power off", timeout=30)
    refused(exceptions.ConflictException, api.delete_node, node)
    node = api.set_node_provision_state(node, "deleted", wait=True, timeout=30)
    assert list(api.volume_targets()) == []
    api.set_node_power_state(node, "power off", wait=True, timeout=30)
    api.delete_volume_connector(connector)
    assert api.find_volume_target(target.id) is None
    api.delete_node(node)
    assert api.find_node("n1") is None


def pages(api):
    """The library follows `next` until there is none."""
    made = [api.create_node(name=f"page-{number}", driver="fake-hardware") for number in range(5)]
    assert [node.name for node in api.nodes(limit=2, sort_key="name")] == [node.name for node in made]
    for node in made:
        api.delete_node(node)


api = connect()
drivers(api)
chassis(api)
nodes(api)
pages(api)
