"""Measurements that anyone can repeat; none is a test. They run with the variables of the local engine's workers."""

import os
import sys

from mtbench.engines.local import WORKER_VARIABLES

_missing = {name: value for name, value in WORKER_VARIABLES.items() if name not in os.environ}
# The C library reads its own at the start of a process: a benchmark that is being run, `python -m`, starts once more.
if _missing and sys.argv[0] == "-m":
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **_missing})
