"""The miniature data sets keep the contract of data sets themselves."""

from mtbench.testing import DatasetContract
from mtbench.testing.problems import OwnMulticlass, OwnRegression, SharedOneVsAll, SharedRegression


class TestSharedOneVsAll(DatasetContract):
    dataset = SharedOneVsAll


class TestSharedRegression(DatasetContract):
    dataset = SharedRegression


class TestOwnRegression(DatasetContract):
    dataset = OwnRegression


class TestOwnMulticlass(DatasetContract):
    dataset = OwnMulticlass
