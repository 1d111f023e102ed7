"""Switches a node with a BMC through openstacksdk: on, off, reboot, and the boot device."""

import sys
import time

import openstack

ENDPOINT, NODE = sys.argv[1:]

api = openstack.connection.Connection(
    auth_type="none", auth={"endpoint": ENDPOINT}, baremetal_endpoint_override=ENDPOINT
).baremetal

for target, state in [
    ("power on", "power on"),
    ("rebooting", "power on"),
    ("soft power off", "power off"),
    ("rebooting", "power on"),
    ("power off", "power off"),
]:
    api.set_node_power_state(NODE, target, wait=True, timeout=90)
    # The SDK waits for the power state, which a machine that is to be restarted has already.
    deadline = time.monotonic() + 90
    while (node := api.get_node(NODE)).target_power_state and time.monotonic() < deadline:
        time.sleep(0.2)
    assert (node.power_state, node.target_power_state, node.last_error) == (state, None, None), (target, node)

api.set_node_boot_device(NODE, "disk", persistent=True)
assert api.get_node_boot_device(NODE) == {"boot_device": "disk", "persistent": True}
assert "pxe" in api.get_node_supported_boot_devices(NODE)["supported_boot_devices"]
