"""The arithmetic of embeddings: rows of 32-bit floats, cut and normalised. Pure; imports numpy, so it is imported when used."""

import numpy as np
import numpy.typing as npt

_LEAST_NORM = 1e-12  # a vector of zeros stays one. Source: ollama@v0.32 server/routes.go, normalize


def is_finite(data: bytes) -> bool:
    return bool(np.isfinite(np.frombuffer(data, "<f4")).all())


def cut_and_normalised(data: bytes, count: int, dimensions: int) -> bytes:
    """`count` rows as vectors of length 1; with `dimensions` above 0 only so many of the first numbers of each row."""
    rows = np.frombuffer(data, "<f4").reshape(count, -1)
    if 0 < dimensions < rows.shape[1]:
        rows = rows[:, :dimensions]
    norms = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    vectors: npt.NDArray[np.float32] = (rows / np.maximum(norms, _LEAST_NORM)).astype("<f4")
    return vectors.tobytes()
