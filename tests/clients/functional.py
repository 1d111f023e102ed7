"""Runs openstacksdk's own functional tests for bare metal; prints the result of each as a line of JSON.

The tests come with the package. `OS_CLIENT_CONFIG_FILE` names the clouds that they use.
"""

import json
import pathlib
import sys
import unittest

import openstack


class Result(unittest.TestResult):
    """Prints `test` and `outcome`, with the reason or the traceback as `text`."""

    def write(self, test, outcome, text=""):
        print(json.dumps({"test": test.id().split(".v1.")[-1], "outcome": outcome, "text": text}), flush=True)

    def addSuccess(self, test):
        self.write(test, "passed")

    def addSkip(self, test, reason):
        self.write(test, "skipped", reason)

    def addError(self, test, error):
        self.write(test, "failed", self._exc_info_to_string(error, test))

    addFailure = addError


root = pathlib.Path(openstack.__file__).parent
suite = unittest.TestLoader().discover(root / "tests/functional/baremetal", top_level_dir=root.parent)
# Tests that cannot be imported are reported as failed.
suite.run(Result())
sys.exit(0)
