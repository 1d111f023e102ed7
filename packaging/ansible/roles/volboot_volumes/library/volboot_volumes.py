# Copyright: the volboot authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: the volume connectors and volume targets of a bare metal node. See the defaults of the role."""

import base64
import hashlib
import hmac
import json
import os

from ansible.module_utils.basic import AnsibleModule

try:
    import openstack
except ImportError:
    openstack = None

DOCUMENTATION = """
module: volboot_volumes
short_description: Volume connectors and volume targets of a bare metal node
description: Creates, changes and deletes the listed records. The options are those of the role volboot_volumes.
options:
  node: {type: str, required: true, description: Name or UUID of the node.}
  cloud: {type: str, description: Entry of clouds.yaml.}
  endpoint: {type: str, description: Address of the API.}
  auth_type: {type: str, description: Authentication type of keystoneauth.}
  auth: {type: dict, description: Options of the authentication type.}
  ca_cert: {type: str, description: Path of the authority's certificate.}
  validate_certs: {type: bool, default: true, description: Whether certificates are verified.}
  timeout: {type: int, default: 60, description: Limit of each request in seconds.}
  state: {type: str, default: present, choices: [present, absent], description: State of records without their own.}
  secrets: {type: str, default: on_change, choices: [on_change, always], description: When secrets are written.}
  connectors:
    type: list
    elements: dict
    default: []
    description: Volume connectors.
    suboptions:
      type: {type: str, required: true, description: Type such as iqn or ip.}
      connector_id: {type: str, required: true, description: Initiator name or address.}
      extra: {type: dict, description: Data of the operator.}
      state: {type: str, choices: [present, absent], description: State of this record.}
  targets:
    type: list
    elements: dict
    default: []
    description: Volume targets.
    suboptions:
      boot_index: {type: int, required: true, description: Place of the volume; 0 is the boot volume.}
      volume_id: {type: str, description: Volume. Required if present; if absent, another volume is kept.}
      volume_type: {type: str, default: iscsi, description: Type of the connection.}
      properties: {type: dict, description: Connection of the volume. Unset, it is not changed.}
      extra: {type: dict, description: Data of the operator. Unset, it is not changed.}
      state: {type: str, choices: [present, absent], description: State of this record.}
requirements: [openstacksdk >= 0.101]
"""

EXAMPLES = """
- volboot_volumes:
    cloud: volboot
    node: web-1
    connectors:
      - {type: iqn, connector_id: "iqn.2017-08.org.openstack.web-1"}
    targets:
      - {boot_index: 0, volume_id: "7f0e5a3c-1f6e-4d7b-9f0a-2c1f5b8d9e10"}
"""

RETURN = """
changes:
  description: One line for each record that was changed, or in check mode would be.
  type: list
  elements: str
  returned: always
"""

STATES = ["present", "absent"]
# The API's answers contain this in place of a secret.
MASK = "******"
# A key that contains one of these words holds a secret: the list of volboot and oslo.utils.
SECRET_WORDS = (
    "password passwd passphrase adminpass admin_pass sys_pswd secret token private_key encrypted_key"
).split()
# The key in `extra` with the digest of `properties`.
DIGEST = "properties_digest"


def list_secrets(value, below_secret=False):
    """The secrets in a value, as text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            is_secret = any(word in str(key).lower() for word in SECRET_WORDS)
            yield from list_secrets(inner, is_secret)
    elif isinstance(value, list):
        for inner in value:
            yield from list_secrets(inner, below_secret)
    elif below_secret and value not in (None, MASK):
        yield str(value)


def matches(wanted, shown):
    """Whether a shown value can be the wanted one; a mask matches everything."""
    if shown == MASK:
        return True
    if isinstance(wanted, dict) and isinstance(shown, dict):
        return wanted.keys() == shown.keys() and all(matches(wanted[key], shown[key]) for key in wanted)
    if isinstance(wanted, list) and isinstance(shown, list):
        return len(wanted) == len(shown) and all(map(matches, wanted, shown))
    return wanted == shown


def contains_mask(shown):
    if isinstance(shown, dict):
        shown = list(shown.values())
    return any(map(contains_mask, shown)) if isinstance(shown, list) else shown == MASK


def digest(properties, salt):
    """A digest of the properties that is slow to compute, against guesses from the API's answers."""
    text = json.dumps(properties, sort_keys=True).encode()
    key = hashlib.scrypt(text, salt=salt, n=1 << 14, r=8, p=1, dklen=24)
    return "scrypt:" + ":".join(base64.b64encode(part).decode() for part in (salt, key))


def digest_matches(recorded, properties):
    try:
        salt = base64.b64decode(str(recorded).split(":")[1])
    except (IndexError, ValueError):
        return False
    return hmac.compare_digest(str(recorded), digest(properties, salt))


class Volumes:
    """The records of a node, and the changes to them. Check mode knows no node if it has yet to be created."""

    def __init__(self, module, api, node):
        self.module, self.api, self.node = module, api, node
        self.changes = []

    def change(self, text, call, *arguments, **named):
        """Notes a change, and makes it unless in check mode."""
        if not self.module.check_mode:
            try:
                call(*arguments, **named)
            # openstacksdk raises errors of keystoneauth and requests as well.
            except Exception as error:
                self.module.fail_json(
                    msg="cannot %s on node %s: %s" % (text, self.module.params["node"], describe(error)),
                    changed=bool(self.changes),
                    changes=self.changes,
                )
        self.changes.append(text)

    def apply(self, connectors, targets):
        """Deletions first: they make room for new records with the same boot index or name."""
        shown_connectors, shown_targets = {}, {}
        if self.node:
            for record in self.api.volume_connectors(details=True, node=self.node.id):
                shown_connectors[(record.type, record.connector_id)] = record
            for record in self.api.volume_targets(details=True, node=self.node.id):
                shown_targets[int(record.boot_index)] = record
        for wanted in targets:
            record = shown_targets.get(wanted["boot_index"])
            if wanted["state"] == "absent" and record and wanted["volume_id"] in (None, record.volume_id):
                text = "delete volume target %s" % wanted["boot_index"]
                self.change(text, self.api.delete_volume_target, record.id)
        for wanted in connectors:
            record = shown_connectors.get((wanted["type"], wanted["connector_id"]))
            if wanted["state"] == "absent" and record:
                text = "delete volume connector %s" % wanted["connector_id"]
                self.change(text, self.api.delete_volume_connector, record.id)
        for wanted in connectors:
            if wanted["state"] == "present":
                self.ensure_connector(wanted, shown_connectors.get((wanted["type"], wanted["connector_id"])))
        for wanted in targets:
            if wanted["state"] == "present":
                self.ensure_target(wanted, shown_targets.get(wanted["boot_index"]))

    def ensure_connector(self, wanted, record):
        if record is None:
            named = {"extra": wanted["extra"]} if wanted["extra"] is not None else {}
            self.change(
                "create volume connector %s" % wanted["connector_id"],
                self.api.create_volume_connector,
                node_id=self.node and self.node.id,
                type=wanted["type"],
                connector_id=wanted["connector_id"],
                **named,
            )
        elif wanted["extra"] is not None and not matches(wanted["extra"], record.extra):
            patch = [{"op": "add", "path": "/extra", "value": wanted["extra"]}]
            text = "change extra of volume connector %s" % wanted["connector_id"]
            self.change(text, self.api.patch_volume_connector, record.id, patch)

    def ensure_target(self, wanted, record):
        index, properties = wanted["boot_index"], wanted["properties"]
        has_secrets = any(list_secrets(properties))
        if record is None:
            extra = dict(wanted["extra"] or {})
            if has_secrets and self.module.params["secrets"] == "on_change":
                extra[DIGEST] = digest(properties, os.urandom(16))
            self.change(
                "create volume target %s" % index,
                self.api.create_volume_target,
                node_id=self.node and self.node.id,
                boot_index=index,
                volume_id=wanted["volume_id"],
                volume_type=wanted["volume_type"],
                properties=properties or {},
                extra=extra,
            )
            return
        shown_extra = dict(record.extra or {})
        recorded = shown_extra.pop(DIGEST, None)
        patch = [
            {"op": "replace", "path": "/" + field, "value": wanted[field]}
            for field in ("volume_id", "volume_type")
            if wanted[field] != getattr(record, field)
        ]
        if wanted["extra"] is not None and not matches(wanted["extra"], shown_extra):
            value = dict(wanted["extra"], **({DIGEST: recorded} if recorded else {}))
            patch.append({"op": "add", "path": "/extra", "value": value})
        if properties is not None and not self.has_properties(record, recorded, properties):
            patch.append({"op": "add", "path": "/properties", "value": properties})
            if has_secrets and self.module.params["secrets"] == "on_change":
                value = digest(properties, os.urandom(16))
                patch.append({"op": "add", "path": "/extra/" + DIGEST, "value": value})
            elif recorded:
                patch.append({"op": "remove", "path": "/extra/" + DIGEST})
        if patch:
            fields = [operation["path"].split("/")[1] for operation in patch]
            names = " and ".join(sorted(set(fields) - ({"extra"} if "properties" in fields else set())))
            text = "change %s of volume target %s" % (names, index)
            self.change(text, self.api.patch_volume_target, record.id, patch)

    def has_properties(self, record, recorded, properties):
        """Whether the target has these properties, as far as the masked answer and the digest tell."""
        shown = record.properties or {}
        if not matches(properties, shown):
            return False
        if not contains_mask(shown):
            return True
        return self.module.params["secrets"] == "on_change" and digest_matches(recorded, properties)


def describe(error):
    """The service's own message if there is one."""
    return getattr(error, "details", None) or str(error)


def connect(params):
    """Connects with openstacksdk, as the modules of openstack.cloud do."""
    options = {"api_timeout": params["timeout"]}
    auth = dict(params["auth"] or {})
    if params["cloud"]:
        options["cloud"] = params["cloud"]
    if params["auth_type"]:
        options["auth_type"] = params["auth_type"]
    if params["endpoint"]:
        options["baremetal_endpoint_override"] = params["endpoint"]
        # Keystone's types take the address from the catalogue, the others from here.
        if params["auth_type"] in ("none", "http_basic", "admin_token"):
            auth.setdefault("endpoint", params["endpoint"])
    if auth:
        options["auth"] = auth
    if params["ca_cert"]:
        options["cacert"] = params["ca_cert"]
    if not params["validate_certs"]:
        options["verify"] = False
    return openstack.connect(app_name="volboot_volumes", **options).baremetal


def prepare(module, kind, key, state):
    """The listed records of a kind with their states; refuses duplicates and records without a volume."""
    records, keys = module.params[kind], set()
    for record in records:
        record["state"] = record["state"] or state
        identity = tuple(record[name] for name in key)
        if identity in keys:
            module.fail_json(msg="%s has two entries for %s" % (kind, "/".join(map(str, identity))))
        keys.add(identity)
        if kind == "targets" and record["state"] == "present" and not record["volume_id"]:
            module.fail_json(msg="the target with boot_index %s has no volume_id" % record["boot_index"])
    return records


def main():
    text, state = {"type": "str"}, {"type": "str", "choices": STATES}
    key = {"type": "str", "required": True}
    connector = {"type": key, "connector_id": key, "extra": {"type": "dict"}, "state": state}
    target = {
        "boot_index": {"type": "int", "required": True},
        "volume_id": text,
        "volume_type": {"type": "str", "default": "iscsi"},
        "properties": {"type": "dict"},
        "extra": {"type": "dict"},
        "state": state,
    }
    module = AnsibleModule(
        argument_spec={
            "node": key,
            "cloud": text,
            "endpoint": text,
            "auth_type": text,
            "auth": {"type": "dict", "no_log": True},
            "ca_cert": text,
            "validate_certs": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 60},
            "state": dict(state, default="present"),
            "secrets": {"type": "str", "choices": ["on_change", "always"], "default": "on_change", "no_log": False},
            "connectors": {"type": "list", "elements": "dict", "options": connector, "default": []},
            "targets": {"type": "list", "elements": "dict", "options": target, "default": []},
        },
        supports_check_mode=True,
        # The arguments contain secrets, which the system log would keep.
        no_log=True,
    )
    params = module.params
    module.no_log_values.update(list_secrets(params["targets"]))
    if openstack is None:
        module.fail_json(msg="the Python that runs this module has no openstacksdk")
    connectors = prepare(module, "connectors", ["type", "connector_id"], params["state"])
    targets = prepare(module, "targets", ["boot_index"], params["state"])
    try:
        api = connect(params)
        node = api.find_node(params["node"])
        is_needed = any(record["state"] == "present" for record in connectors + targets)
        if node is None and is_needed and not module.check_mode:
            module.fail_json(msg="node %s does not exist" % params["node"])
        volumes = Volumes(module, api, node)
        volumes.apply(connectors, targets)
    except Exception as error:
        module.fail_json(msg="cannot use the bare metal API: %s" % describe(error))
    changes = volumes.changes
    module.exit_json(changed=bool(changes), changes=changes, diff={"prepared": "".join(f"{line}\n" for line in changes)})


if __name__ == "__main__":
    main()
