"""The types that llama.cpp's quantizer knows, by the names that people use. Facts of llama.cpp, no native code.

Source: llama.cpp tools/quantize/quantize.cpp, QUANT_OPTIONS; include/llama.h, llama_ftype.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from corral.core.errors import BadRequestError


@dataclass(frozen=True, slots=True)
class Quantization:
    """A type of weights. `bits` is what it takes a weight, the scales of its blocks included; mixtures have more in places."""

    name: str
    file_type: int  # llama_ftype, which a GGUF has as general.file_type
    bits: float
    needs_matrix: bool = False  # llama.cpp makes it with an importance matrix only, which nothing here can give it

    @property
    def is_float(self) -> bool:
        """Whether it holds weights as they are, at some precision, rather than in blocks of few bits."""
        return self.name in ("F32", "F16", "BF16")


_KNOWN: Final = (
    Quantization("F32", 0, 32),
    Quantization("F16", 1, 16),
    Quantization("BF16", 32, 16),
    Quantization("Q8_0", 7, 8.5),
    Quantization("Q6_K", 18, 6.5625),
    Quantization("Q5_1", 9, 6),
    Quantization("Q5_K_M", 17, 5.7),
    Quantization("Q5_K_S", 16, 5.54),
    Quantization("Q5_0", 8, 5.5),
    Quantization("Q4_1", 3, 5),
    Quantization("Q4_K_M", 15, 4.85),
    Quantization("Q4_K_S", 14, 4.58),
    Quantization("Q4_0", 2, 4.5),
    Quantization("IQ4_NL", 25, 4.5),
    Quantization("IQ4_XS", 30, 4.25),
    Quantization("MXFP4_MOE", 38, 4.25),
    Quantization("Q3_K_L", 13, 4.27),
    Quantization("Q3_K_M", 12, 3.91),
    Quantization("IQ3_M", 27, 3.66),
    Quantization("Q3_K_S", 11, 3.5),
    Quantization("IQ3_S", 26, 3.44),
    Quantization("IQ3_XS", 22, 3.3, needs_matrix=True),
    Quantization("IQ3_XXS", 23, 3.06, needs_matrix=True),
    Quantization("Q2_K", 10, 2.96),
    Quantization("Q2_K_S", 21, 2.83, needs_matrix=True),
    Quantization("IQ2_M", 29, 2.7, needs_matrix=True),
    Quantization("IQ2_S", 28, 2.5, needs_matrix=True),
    Quantization("IQ2_XS", 20, 2.31, needs_matrix=True),
    Quantization("Q2_0", 41, 2.25),
    Quantization("IQ2_XXS", 19, 2.06, needs_matrix=True),
    Quantization("TQ2_0", 37, 2.06),
    Quantization("IQ1_M", 31, 1.75, needs_matrix=True),
    Quantization("TQ1_0", 36, 1.69),
    Quantization("IQ1_S", 24, 1.56, needs_matrix=True),
    Quantization("Q1_0", 40, 1.125),
)
_ALIASES: Final = {"Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M", "MXFP4": "MXFP4_MOE"}

QUANTIZATIONS: Final[Mapping[str, Quantization]] = MappingProxyType({known.name: known for known in _KNOWN})


def quantization(name: str) -> Quantization:
    """The type of that name, in whatever case.

    >>> quantization("q4_k").name
    'Q4_K_M'

    Raises BadRequestError for a name that is none, with the types that can be made, and for one that needs a matrix.
    """
    upper = name.upper()
    found = QUANTIZATIONS.get(_ALIASES.get(upper, upper))
    if not found:
        can_be_made = ", ".join(known.name for known in _KNOWN if not known.needs_matrix)
        raise BadRequestError(f"unsupported quantization type {upper} - supported types are {can_be_made}")
    if found.needs_matrix:
        raise BadRequestError(
            f"cannot quantize to {found.name}: it needs an importance matrix, which cannot be given here; "
            "choose another type, or a GGUF that was made with one"
        )
    return found
