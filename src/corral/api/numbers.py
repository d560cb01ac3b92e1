"""Numbers as Go's JSON encoder writes them, many at a time: the shortest decimal that reads back as the same float.

The quick road finds for each 32-bit float the 64-bit one with those digits, all at once, and leaves the writing to msgspec.
The few that msgspec writes in another form than Go (whole ones, and very large and small ones) are written one by one.
Imports numpy, so it is imported when used.
Source: go1.26 encoding/json encode.go, floatEncoder.
"""

from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

_PLAIN: Final = (1e-5, 1e15)  # between them msgspec writes like Go, but for whole numbers
_GO_PLAIN: Final = (1e-6, 1e21)  # between them Go writes without an exponent
_SURE_DIGITS: Final = 6  # decimals of so many digits are all different 32-bit floats
_MOST_DIGITS: Final = 9  # every 32-bit float has a decimal of so many digits
_POWERS: Final = np.array([10.0**exponent for exponent in range(23)])  # exact, all of them

_encoder: Final = msgspec.json.Encoder()


def float_rows(rows: npt.NDArray[Any]) -> bytes:
    """The rows as JSON arrays with commas between them, and nothing around them. float32 or float64; all finite."""
    short = _shortened(rows) if rows.dtype == np.float32 else rows
    listed: list[list[Any]] = short.tolist()
    size = np.abs(short)
    for row, column in np.argwhere((size < _PLAIN[0]) | (size >= _PLAIN[1]) | (short == np.rint(short))).tolist():
        listed[row][column] = msgspec.Raw(_written(rows[row, column]))
    return _encoder.encode(listed)[1:-1]


def _written(value: Any) -> bytes:
    """One number, slowly."""
    if value == 0 or _GO_PLAIN[0] <= abs(value) < _GO_PLAIN[1]:
        return np.format_float_positional(value, trim="-").encode()
    return np.format_float_scientific(value, trim="-", exp_digits=1).encode()


def _shortened(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """For each float the 64-bit one whose shortest decimal is the float's own; where that is not plain, anything close."""
    exact = rows.astype(np.float64).ravel()
    short = exact.copy()
    size = np.abs(exact)
    left = np.flatnonzero((size >= _PLAIN[0]) & (size < _PLAIN[1]))
    exponents = np.floor(np.log10(size[left])).astype(np.int64)
    for digits in range(_SURE_DIGITS, _MOST_DIGITS + 1):
        values = exact[left]
        places = digits - 1 - exponents
        scale = _POWERS[np.abs(places)]
        rounded = np.where(places >= 0, np.rint(values * scale) / scale, np.rint(values / scale) * scale)
        short[left] = rounded
        differs = rounded.astype(np.float32) != values.astype(np.float32)
        left, exponents = left[differs], exponents[differs]
    return short.reshape(rows.shape)
