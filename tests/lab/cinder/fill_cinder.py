"""Fills a new Cinder database with volume types, which name the back ends of the configuration."""

import sys

from cinder import context, objects
from cinder.common import config  # noqa: F401  (registers the configuration options)
from cinder.volume import volume_types
from oslo_config import cfg

VOLUME_TYPES = {
    "chap": {"volume_backend_name": "chap"},
    "plain": {"volume_backend_name": "plain"},
    "mpath": {"volume_backend_name": "mpath"},
    "multiattach": {"volume_backend_name": "chap", "multiattach": "<is> True"},
}

cfg.CONF(sys.argv[1:], project="cinder")
objects.register_all()
for name, specs in VOLUME_TYPES.items():
    volume_types.create(context.get_admin_context(), name, specs)
