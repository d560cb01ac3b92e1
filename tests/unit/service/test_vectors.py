import numpy as np
import pytest

from corral.service.vectors import cut_and_normalised, is_finite


def packed(*rows: list[float]) -> bytes:
    return np.array(rows, "<f4").tobytes()


def test_rows_become_vectors_of_length_one() -> None:
    made = np.frombuffer(cut_and_normalised(packed([3, 4], [0, -2]), 2, 0), "<f4")
    assert made.tolist() == pytest.approx([0.6, 0.8, 0, -1])


@pytest.mark.parametrize(("dimensions", "wanted"), [(0, 4), (2, 2), (4, 4), (9, 4)])
def test_dimensions_cut_and_normalise_again(dimensions: int, wanted: int) -> None:
    made = np.frombuffer(cut_and_normalised(packed([1, 2, 3, 4], [4, 3, 2, 1]), 2, dimensions), "<f4").reshape(2, -1)
    assert made.shape == (2, wanted)
    assert np.linalg.norm(made, axis=1) == pytest.approx([1, 1])


def test_zeros_stay_zeros() -> None:
    assert cut_and_normalised(packed([0, 0]), 1, 0) == packed([0, 0])


def test_large_numbers_do_not_overflow() -> None:
    made = np.frombuffer(cut_and_normalised(packed([3e38, 3e38]), 1, 0), "<f4")
    assert made.tolist() == pytest.approx([0.5**0.5] * 2)


@pytest.mark.parametrize(("value", "wanted"), [(1.0, True), (float("nan"), False), (float("inf"), False)])
def test_is_finite(value: float, wanted: bool) -> None:
    assert is_finite(packed([0, value])) is wanted
