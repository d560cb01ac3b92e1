"""Ranges of numbers: whether anything is in one, and its bounds as llguidance reads them right.

llguidance takes the bound itself where a range is open at an integer and goes no further than the next one: of (2, 2.5] the 2.
It reads bounds as doubles, the last of 17 digits not always right. And what it makes of few multiples is wrong by a rounding.
So only bounds are written that are values themselves, drawn in to 15 digits and 20 decimals, and few multiples as a list.
"""

import math
from decimal import Decimal
from fractions import Fraction
from typing import Final

from corral.core.errors import BadRequestError
from corral.parse.grammars.shapes import Shape, exact

_MAX_BOUND: Final = Fraction(10) ** 17  # llguidance reads none beyond 64 bits
_MAX_INTEGER: Final = Fraction(2**63 - 1024)  # clients hold them in 64 bits; the largest that a double holds, too
_MAX_MULTIPLE: Final = Fraction(10**15 - 1)  # an automaton for multiples needs its states once for each digit
_DIGITS: Final = 15  # of a bound: so many are read right
_PLACES: Final = 20  # decimals of a bound: no number needs more digits than one may have
MAX_LISTED: Final = 100

_Bounds = tuple[Fraction | None, Fraction | None]


def is_empty(shape: Shape) -> bool:
    """Whether no number is in the shape's range."""
    low, high = _closed(shape)
    is_open = shape.is_low_open or shape.is_high_open
    return low is not None and high is not None and (low > high or (low == high and is_open and _step(shape) is None))


def listed(shape: Shape) -> list[float]:
    """All numbers of the shape, where it is one, or they are steps apart and few, and doubles tell them; else none."""
    step, (low, high) = shape.step and _step(shape), _closed(shape)
    if low is None or high is None or low < -_MAX_BOUND or high > _MAX_BOUND:
        return []
    if low != high if step is None else (high - low) / step > MAX_LISTED - 1:
        return []
    found = [low] if step is None else [low + step * at for at in range(int((high - low) / step) + 1)]
    numbers = [_plain(one) for one in found]
    return numbers if all(exact(number) == one for number, one in zip(numbers, found, strict=True)) else []


def bounds(shape: Shape, where: str) -> dict[str, float]:
    """The keywords for what numbers must be. Raises BadRequestError where no number that can be told is left."""
    step, (low, high) = _step(shape), _closed(shape)
    if shape.step is not None:
        most, text = _MAX_MULTIPLE, f"{where}: no multiple of up to 15 digits is in the range at {shape.path}"
    elif shape.is_integer:
        most, text = _MAX_INTEGER, f"{where}: no integer of 64 bits is in the range at {shape.path}"
    else:
        most, text = _MAX_BOUND, f"{where}: the range at {shape.path} is beyond 1e17, or too narrow for a number of 15 digits"
    if (low is not None and low > most) or (high is not None and high < -most):
        raise BadRequestError(text)
    if step is not None:  # a model that loops would write digits without end, and may never find a multiple
        low, high = -most if low is None else low, most if high is None else high
    written: dict[str, float] = {}
    if low is not None:
        written["minimum"] = _inward(max(low, -most), is_open=shape.is_low_open and step is None, way=1)
    if high is not None:
        written["maximum"] = _inward(min(high, most), is_open=shape.is_high_open and step is None, way=-1)
    if written.get("minimum", -math.inf) > written.get("maximum", math.inf):
        raise BadRequestError(text)
    if shape.step is not None and step is not None:
        written["multipleOf"] = _plain(step)
    return written


def _step(shape: Shape) -> Fraction | None:
    """What all numbers are multiples of."""
    if not shape.is_integer:
        return shape.step
    return Fraction(1 if shape.step is None else shape.step.numerator)


def _closed(shape: Shape) -> _Bounds:
    """The first and the last multiple within the bounds; without a step the bounds, be they open or not."""
    step, low, high = _step(shape), shape.low, shape.high
    if step is None:
        return low, high
    if low is not None:
        first = math.ceil(low / step)
        low = step * (first + (shape.is_low_open and step * first == low))
    if high is not None:
        last = math.floor(high / step)
        high = step * (last - (shape.is_high_open and step * last == high))
    return low, high


def _inward(bound: Fraction, *, is_open: bool, way: int) -> float:
    """The first number inside of a bound that is written right. `way` is up or down: 1 or -1."""
    if bound.denominator == 1 and not is_open:
        return _whole(int(bound), way)
    digits = _DIGITS - 1 - Decimal(float(bound)).adjusted() if bound else _PLACES
    unit = Fraction(1, 10 ** min(_PLACES, digits)) if digits > 0 else Fraction(1)
    count = way * math.ceil(way * bound / unit)
    inside = unit * (count + way * (is_open and unit * count == bound))
    return _whole(int(inside), way) if inside.denominator == 1 else float(inside)


def _whole(number: int, way: int) -> int:
    """The first integer from there on that a double holds."""
    while Fraction(float(number)) != number:
        number += way
    return number


def _plain(number: Fraction) -> float:
    return int(number) if number.denominator == 1 else float(number)
