"""`gunicorn -c conf/gunicorn.conf.py gw.app:app`, with the configuration file in JITTERWAY_CONFIG or conf/config.yaml.

Nothing is set here: gunicorn's settings follow from ours. `--print-config` shows them.
"""

from gw.server.gunicorn_conf import *  # noqa: F403 - gunicorn takes its settings from the names of this module
