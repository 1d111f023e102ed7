"""A Cinder driver with sparse files as volumes: the kernel of a test machine may lack LVM.

The driver provides only the files. Targets, names, CHAP secrets and connections come from the tgt helper of Cinder's
LVM driver, so a client of the API sees the same results.
"""

import pathlib

from cinder.volume import configuration, driver
from cinder.volume.targets import tgt
from oslo_config import cfg

OPTIONS = [cfg.BoolOpt("lab_chap", default=True, help="Whether initiators need a secret.")]
cfg.CONF.register_opts(OPTIONS, group=configuration.SHARED_CONF_GROUP)


class WithoutSecret(tgt.TgtAdm):
    """The helper without CHAP, which it otherwise always requires."""

    def create_iscsi_target(self, name, tid, lun, path, chap_auth=None, **rest):
        return super().create_iscsi_target(name, tid, lun, path, **rest)

    def create_export(self, context, volume, path):
        return super().create_export(context, volume, path) | {"auth": None}


class FileVolumes(driver.VolumeDriver):
    VERSION = "1"
    CI_WIKI_NAME = "none"

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.configuration.append_config_values(OPTIONS)
        helper = tgt.TgtAdm if self.configuration.lab_chap else WithoutSecret
        self.targets = helper(configuration=self.configuration, db=self.db, executor=self._execute)

    @staticmethod
    def get_driver_options():
        return OPTIONS

    def check_for_setup_error(self):
        self.folder().mkdir(exist_ok=True)

    def folder(self):
        return pathlib.Path(cfg.CONF.state_path, "volumes")

    def local_path(self, volume):
        return str(self.folder() / volume.name)

    def create_volume(self, volume):
        with open(self.local_path(volume), "xb") as file:
            file.truncate(volume.size << 30)

    def delete_volume(self, volume):
        pathlib.Path(self.local_path(volume)).unlink(missing_ok=True)

    def create_export(self, context, volume, connector):
        export = self.targets.create_export(context, volume, self.local_path(volume))
        return {"provider_location": export["location"], "provider_auth": export["auth"]}

    def ensure_export(self, context, volume):
        self.targets.ensure_export(context, volume, self.local_path(volume))

    def remove_export(self, context, volume):
        self.targets.remove_export(context, volume)

    def validate_connector(self, connector):
        self.targets.validate_connector(connector)

    def initialize_connection(self, volume, connector):
        return self.targets.initialize_connection(volume, connector)

    def terminate_connection(self, volume, connector, **rest):
        """True if other attachments still use the target, which all attachments of a volume share."""
        self.targets.terminate_connection(volume, connector, **rest)
        return len(volume.volume_attachment) > 1

    def _update_volume_stats(self):
        name = self.configuration.volume_backend_name
        self._stats = {
            "volume_backend_name": name,
            "vendor_name": "volboot's lab",
            "driver_version": self.VERSION,
            "storage_protocol": self.targets.protocol,
            "total_capacity_gb": 1000,
            "free_capacity_gb": 1000,
            "reserved_percentage": 0,
            "multiattach": True,
        }
