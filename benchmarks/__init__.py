"""Measurements that anyone can repeat; none is a test. They run with the variables of the local engine's workers."""

import os

from mtbench.engines.local import WORKER_VARIABLES

for _name, _value in WORKER_VARIABLES.items():
    os.environ.setdefault(_name, _value)
