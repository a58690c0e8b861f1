"""What a GPU does with mtbench: agreement, resume, data on the device, precision, memory and speed."""

import os

# Read when torch is imported: its profiler tells of every start and stop otherwise.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
