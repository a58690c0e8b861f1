"""Every built-in metric keeps the contract."""

from mtbench.metrics import METRICS
from mtbench.testing import MetricContract

for name, metric in METRICS.items():
    case = f"Test_{name}"
    globals()[case] = type(case, (MetricContract,), {"metric": metric})
del MetricContract
