"""Numbers as Go writes them. The texts wanted here are what Go 1.26's encoding/json gives."""

import json

import numpy as np
import pytest

from corral.api.numbers import float_rows

SINGLE = [
    (0.0, "0"),
    (-0.0, "-0"),
    (1.0, "1"),
    (-1.0, "-1"),
    (0.1, "0.1"),
    (0.010101199, "0.010101199"),
    (-0.036292, "-0.036292"),
    (1e-5, "0.00001"),
    (1.5e-6, "0.0000015"),
    (1e-6, "0.000001"),
    (9.5e-7, "9.5e-7"),
    (1e-9, "1e-9"),
    (1.17549435e-38, "1.1754944e-38"),
    (1e-45, "1e-45"),
    (16777216.0, "16777216"),
    (123456.7, "123456.7"),
    (3.4028235e38, "3.4028235e+38"),
    (1e20, "100000000000000000000"),
    (1e21, "1e+21"),
]


@pytest.mark.parametrize(("value", "wanted"), SINGLE)
def test_float32(value: float, wanted: str) -> None:
    assert float_rows(np.array([[value]], "<f4")) == f"[{wanted}]".encode()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0.0, "0"), (float(np.float32(0.1)), "0.10000000149011612"), (2e-6, "0.000002"), (5e-324, "5e-324"), (-3.0, "-3")],
)
def test_float64(value: float, wanted: str) -> None:
    assert float_rows(np.array([[value]])) == f"[{wanted}]".encode()


def test_rows_stand_beside_each_other() -> None:
    assert float_rows(np.array([[0.5, 1], [0.25, -2]], "<f4")) == b"[0.5,1],[0.25,-2]"


@pytest.mark.parametrize("scale", [1, 0.05, 1e-4, 1e-7, 300, 1e9, 1e18, 1e30])
def test_every_float_reads_back_and_has_the_fewest_digits(scale: float) -> None:
    random = np.random.default_rng(int(scale) + 7)
    rows = (random.standard_normal((50, 200)) * scale).astype(np.float32)
    text = float_rows(rows)
    again = np.array(json.loads(b"[%b]" % text), np.float32)
    assert np.array_equal(rows, again)
    written = text.decode().strip("[]").replace("],[", ",").split(",")
    for value, shown in zip(rows.ravel().tolist(), written, strict=True):
        assert float(shown) == float(str(np.float32(value)))
