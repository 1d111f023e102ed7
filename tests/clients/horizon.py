"""Calls the functions of Horizon's panel for bare metal (`ironic_ui.api.ironic`), which its views consist of.

Arguments: the folder of ironic-ui, and the address of the API. Of Django and Horizon, the module needs settings, a
cache, and the address from Keystone's catalogue.
"""

import sys
import types

from ironicclient import exc

FOLDER, ENDPOINT = sys.argv[1:]


def provide(name, **attributes):
    """Registers a module with these attributes, and its parents."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        sys.modules.setdefault(".".join(parts[:end]), types.ModuleType(parts[end - 1]))
    vars(sys.modules[name]).update(attributes)
    if len(parts) > 1:
        setattr(sys.modules[name.rpartition(".")[0]], parts[-1], sys.modules[name])


provide("django.conf", settings=types.SimpleNamespace())
provide("horizon.utils.memoized", memoized=lambda function: function)
provide("openstack_dashboard.api.base", url_for=lambda request, service: ENDPOINT)
sys.path.append(FOLDER)
from ironic_ui.api import ironic  # noqa: E402

token = types.SimpleNamespace(id="none")
request = types.SimpleNamespace(user=types.SimpleNamespace(token=token))


def expect_refusal(text, function, *arguments):
    try:
        function(request, *arguments)
    except exc.HTTPClientError as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"{function.__name__} was not refused")


assert ironic.DEFAULT_IRONIC_API_VERSION == "1.34"
names = [driver.name for driver in ironic.driver_list(request)]
assert names == ["fake-hardware", "manual-management", "redfish"], names
assert ironic.driver_details(request, "fake-hardware")["default_boot_interface"] == "fake"
ironic.driver_properties(request, "manual-management")

node = ironic.node_create(request, {"driver": "fake-hardware", "name": "web-1"})
uuid = node["uuid"]
assert [node.uuid for node in ironic.node_list(request)] == [uuid]
patch = [{"op": "add", "path": "/extra/rack", "value": "7"}]
assert ironic.node_update(request, uuid, patch)["extra"] == {"rack": "7"}
port = ironic.port_create(request, {"node_uuid": uuid, "address": "52:54:00:12:34:56", "physical_network": "blue"})
assert ironic.node_list_ports(request, uuid)[0].physical_network == "blue"
ironic.port_update(request, port.uuid, [{"op": "replace", "path": "/pxe_enabled", "value": False}])
group = ironic.portgroup_create(request, {"node_uuid": uuid, "name": "bond0"})
assert [group.name for group in ironic.portgroup_list(request, uuid)] == ["bond0"]
assert ironic.portgroup_get_ports(request, group.uuid) == []
ironic.portgroup_update(request, group.uuid, [{"op": "replace", "path": "/name", "value": "bond1"}])

for verb in ("manage", "provide", "active"):
    ironic.node_set_provision_state(request, uuid, verb)
node = ironic.node_get(request, uuid)
assert (node.provision_state, node.power_state) == ("active", "power on")
ironic.node_set_provision_state(request, uuid, "deleted")
for state in ("on", "reboot", "off"):
    ironic.node_set_power_state(request, uuid, state)
ironic.node_set_maintenance(request, uuid, "on", "fan 3")
assert ironic.node_get(request, uuid).maintenance_reason == "fan 3"
ironic.node_set_maintenance(request, uuid, "off")
assert {"boot", "deploy", "power", "storage"} <= {row["interface"] for row in ironic.node_validate(request, uuid)}
ironic.node_set_boot_device(request, uuid, "pxe", False)
assert ironic.node_get_boot_device(request, uuid)["boot_device"] == "pxe"
assert "pxe" in ironic.node_get_supported_boot_devices(request, uuid)
assert ironic.node_get_console(request, uuid)["console_enabled"] is False
expect_refusal("does not support console", ironic.node_set_console_mode, uuid, True)
expect_refusal("does not support raid", ironic.node_set_raid_config, uuid, {"logical_disks": []})
expect_refusal("does not support inject_nmi", ironic.node_inject_nmi, uuid)

ironic.port_delete(request, port.uuid)
ironic.portgroup_delete(request, group.uuid)
ironic.node_delete(request, uuid)
assert ironic.node_list(request) == []
