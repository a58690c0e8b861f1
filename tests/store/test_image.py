from __future__ import annotations

import dataclasses
import subprocess
import sys

import h5py
import numpy as np
import pytest

from mtbench.contracts.trials import Status, Trial
from mtbench.errors import StoreError
from mtbench.store import decode, encode
from mtbench.store.columns import to_columns
from mtbench.store.image import payload_sha256, verify_image


def same(left: object, right: object) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    return left == right


def test_a_result_comes_back_as_it_went_in(result, tmp_path):
    before = result(statuses=[Status.FINISHED, Status.DIVERGED, Status.OOM])
    path = tmp_path / "a.h5"
    path.write_bytes(encode(before))
    for after in (decode(path), decode(path.read_bytes()), verify_image(path)):
        for field in dataclasses.fields(before):
            assert same(getattr(before, field.name), getattr(after, field.name)), field.name
        assert after.trials[1].cell is after.trials[0].cell


def test_a_record_without_any_result_comes_back(result):
    after = decode(encode(result(full=False)))
    assert after.metrics == {}
    assert after.best_epoch is None
    assert after.log == ""


def test_booleans_and_foreign_byte_orders_are_stored_as_plain_numbers(result):
    before = result(2)
    before.learned = {"mask": np.array([[True], [False]]), "big": np.array([[1.5], [2.5]], ">f8")}
    after = decode(encode(before))
    assert after.learned["mask"].tolist() == [[1], [0]]
    assert after.learned["big"].dtype.str == "<f8"
    assert after.learned["big"].tolist() == [[1.5], [2.5]]


def test_text_that_no_field_can_hold_is_replaced_not_lost(result):
    before = result(1)
    before.log = "before\0after \udcff"
    before.reason = ["trailing\0"]
    after = verify_image(encode(before))
    assert after.log == "before\ufffdafter ?"
    assert after.reason == ["trailing\ufffd"]


def test_numpy_values_in_provenance_become_plain_ones(result):
    before = result(1)
    before.provenance = {"a": np.float64(0.5), "b": np.arange(2), "c": {1: (2, 3)}}
    assert decode(encode(before)).provenance == {"a": 0.5, "b": [0, 1], "c": {"1": [2, 3]}}


def test_large_arrays_are_compressed_and_small_ones_are_not(result, tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(encode(result()))
    with h5py.File(path, "r") as file:
        assert file["predictions/test"].compression == "gzip"
        assert file["metrics/test/rmse"].compression is None
        assert file.attrs["method"] == b"amtfl"
        assert file["trials/split"][:].tolist() == [0, 0, 0]
        assert file["trials/epochs"][:].tolist() == [7, -1, -1]
        assert file["params/alpha"].dtype == np.float64
        assert file["params/hidden"].dtype == np.int64
        assert file["params/act"][0] == b"relu"


def test_payload_hash_sees_path_type_shape_and_bytes(result):
    columns = to_columns(result())
    whole = payload_sha256(columns)
    values = columns["metrics/test/rmse"]
    assert payload_sha256(dict(reversed(columns.items()))) == whole
    for other in (values + 1, values.reshape(4, 3), values.view(np.int64)):
        assert payload_sha256({**columns, "metrics/test/rmse": other}) != whole
    assert payload_sha256({("log2" if p == "log" else p): c for p, c in columns.items()}) != whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.metrics["test"].update(rmse=np.zeros((2, 4))), "row for each of the 3 trials; found 2"),
        (lambda r: r.metrics["test"].update(rmse=np.array(["a", "b", "c"])), "must hold numbers"),
        (lambda r: r.learned.update({"": np.zeros(3)}), "must not be empty"),
        (lambda r: r.status.pop(), "'trials/status' must have a row"),
        (lambda r: r.trials.clear(), "at least one"),
        (lambda r: r.trials.append(dataclasses.replace(r.trials[0], params={"beta": 1})), "same hyperparameters"),
    ],
)
def test_a_result_that_is_none_is_refused_before_it_is_written(result, change, message):
    broken = result()
    change(broken)
    with pytest.raises(StoreError, match=message):
        encode(broken)


def test_every_damaged_byte_of_the_data_is_noticed(result, tmp_path):
    image = encode(result(2))
    path = tmp_path / "a.h5"
    rng = np.random.default_rng(0)
    data = decode(image).predictions["test"]
    at = image.find(np.ascontiguousarray(decode(image).learned["transfer"]).tobytes()[:64])
    assert data.size
    assert at > 0
    for offset in at + rng.integers(0, 64, 20):
        damaged = bytearray(image)
        damaged[offset] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="SHA-256"):
            decode(path)


def test_a_truncated_file_is_an_error_that_names_it(result, tmp_path):
    image = encode(result())
    path = tmp_path / "cut.h5"
    for length in (0, 1, 100, 511, 512, 700, len(image) // 2, len(image) - 1):
        path.write_bytes(image[:length])
        with pytest.raises(StoreError, match=r"cut\.h5"):
            decode(path)


def test_an_identity_round_trips_and_a_changed_one_is_refused(result):
    trial = result().trials[0]
    assert Trial.from_identity(trial.identity) == trial
    assert Trial.from_identity(trial.identity).id == trial.id
    for text in ("", "[]", "{}", "null", trial.identity + " ", trial.identity.replace('"format":1', '"format":2')):
        with pytest.raises(StoreError, match="identity"):
            Trial.from_identity(text)


def test_the_store_does_not_import_torch():
    code = "import sys, mtbench.store; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
