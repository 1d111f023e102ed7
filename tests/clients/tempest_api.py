"""Runs the API tests of ironic-tempest-plugin; prints the outcome of each as a line of JSON.

Arguments: the URL of Keystone, the maximum microversion, an empty directory for tempest's files. The tests find the API
in Keystone's catalogue.
"""

import json
import os
import pathlib
import sys
import unittest

CONFIG = """
[DEFAULT]
log_file = {home}/tempest.log
[oslo_concurrency]
lock_path = {home}
[auth]
use_dynamic_credentials = false
test_accounts_file = {home}/accounts.yaml
[identity]
uri_v3 = {keystone}
auth_version = v3
v3_endpoint_type = public
[service_available]
ironic = true
ironic_inspector = false
nova = false
neutron = false
glance = false
cinder = false
swift = false
[baremetal]
driver = fake-hardware
endpoint_type = public
min_microversion = 1.1
max_microversion = {version}
[compute]
build_timeout = 60
"""
# The tests ask for an administrator of a project and one of the system. tempest tells them by their names.
ACCOUNTS = [
    {"username": "ann", "password": "x", "roles": ["admin"], "project_name": "p", "domain_name": "Default"},
    {"username": "root", "password": "x", "roles": ["admin"], "system": "all", "user_domain_name": "Default"},
]


class Result(unittest.TestResult):
    """Prints `test` and `outcome`, with the reason or the traceback as `text`."""

    def write(self, test, outcome, text=""):
        # `module.Class.test[id-…,negative]`; for a whole class `setUpClass (module.Class)`.
        name = test.id().replace("ironic_tempest_plugin.tests.api.admin.", "").partition("[")[0]
        print(json.dumps({"test": name, "outcome": outcome, "text": text}), flush=True)

    def addSuccess(self, test):
        self.write(test, "passed")

    def addSkip(self, test, reason=None, details=None):
        self.write(test, "skipped", reason or read_details(details))

    def addError(self, test, error=None, details=None):
        self.write(test, "failed", self._exc_info_to_string(error, test) if error else read_details(details))

    addFailure = addError

    def addExpectedFailure(self, test, error=None, details=None):
        self.write(test, "passed")

    def addUnexpectedSuccess(self, test, details=None):
        self.write(test, "failed", "the test should have failed")


def read_details(details):
    """The texts of testtools' details, without the log."""
    texts = [content.as_text() for name, content in details.items() if not name.startswith("pythonlogging")]
    return "\n".join(texts)


keystone, version, home = sys.argv[1:]
(pathlib.Path(home) / "tempest.conf").write_text(CONFIG.format(keystone=keystone, version=version, home=home))
# JSON is YAML.
(pathlib.Path(home) / "accounts.yaml").write_text(json.dumps(ACCOUNTS))
os.environ["TEMPEST_CONFIG_DIR"] = home

# Both read the configuration.
import ironic_tempest_plugin  # noqa: E402
from tempest.test_discover import plugins  # noqa: E402

plugins.TempestTestPluginManager()
root = pathlib.Path(ironic_tempest_plugin.__file__).parent
unittest.TestLoader().discover(root / "tests/api/admin", top_level_dir=root.parent).run(Result())
