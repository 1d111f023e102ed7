"""Runs openstacksdk's own functional tests for bare metal; writes the result of each as a line of JSON to a file.

The tests come with the package. `OS_CLIENT_CONFIG_FILE` names the clouds that they use. They print logs.
"""

import json
import pathlib
import sys
import unittest

import openstack


class Result(unittest.TestResult):
    """Writes `test` and `outcome`, with the reason or the traceback as `text`."""

    def write(self, test, outcome, text=""):
        print(json.dumps({"test": test.id().split(".v1.")[-1], "outcome": outcome, "text": text}), file=results)

    def addSuccess(self, test):
        self.write(test, "passed")

    def addSkip(self, test, reason):
        self.write(test, "skipped", reason)

    def addError(self, test, error):
        self.write(test, "failed", self._exc_info_to_string(error, test))

    addFailure = addError


root = pathlib.Path(openstack.__file__).parent
suite = unittest.TestLoader().discover(root / "tests/functional/baremetal", top_level_dir=root.parent)
with open(sys.argv[1], "w") as results:
    # Tests that cannot be imported are reported as failed.
    suite.run(Result())
