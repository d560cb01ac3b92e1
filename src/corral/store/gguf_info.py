"""What Corral wants to know of a GGUF, by name: the metadata of its header in the words of this project."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from corral.store.gguf import GgufHeader, LongArray, read_header
from corral.store.gguf_types import FILE_TYPES

_BILLION: Final = 1_000_000_000
_MILLION: Final = 1_000_000
_THOUSAND: Final = 1_000


@dataclass(frozen=True, slots=True)
class GgufInfo:
    """One file's metadata. Numbers that the file does not give are 0, texts empty."""

    architecture: str
    metadata: Mapping[str, Any]  # arrays of more than 512 items are LongArray
    parameter_count: int
    bos_token: str
    eos_token: str
    infill_tokens: tuple[str, str, str] | None = None  # before a prefix, before a suffix, before what goes between them

    @classmethod
    def of(cls, header: GgufHeader) -> "GgufInfo":
        metadata = header.metadata
        architecture = metadata.get("general.architecture")

        def token(which: str) -> str:
            number = metadata.get(f"tokenizer.ggml.{which}_token_id")
            return header.special_tokens.get(number, "") if isinstance(number, int) else ""

        return cls(
            architecture=architecture if isinstance(architecture, str) else "",
            metadata=metadata,
            parameter_count=header.parameter_count,
            bos_token=token("bos"),
            eos_token=token("eos"),
            infill_tokens=header.infill_tokens,
        )

    def number(self, key: str) -> int:
        """`ARCHITECTURE.key` as a whole number; of an array the mean, rounded up."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, list) and value and all(isinstance(item, int) for item in value):
            return -(-sum(value) // len(value))
        return int(value) if isinstance(value, int | float) else 0

    @property
    def file_type(self) -> str:
        """`Q4_K_M`, `F16` …; `unknown` where the file does not say, or says a number that has no name."""
        return FILE_TYPES.get(self.metadata.get("general.file_type", -1), "unknown")

    @property
    def parameter_size(self) -> str:
        return human_count(self.parameter_count)

    @property
    def context_length(self) -> int:
        return self.number("context_length")

    @property
    def embedding_length(self) -> int:
        return self.number("embedding_length")

    @property
    def block_count(self) -> int:
        return self.number("block_count")

    @property
    def vocabulary_size(self) -> int:
        """Tokens that the file has."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, LongArray):
            return tokens.length
        return len(tokens) if isinstance(tokens, list) else 0

    @property
    def head_count(self) -> int:
        return self.number("attention.head_count")

    @property
    def head_count_kv(self) -> int:
        return self.number("attention.head_count_kv") or self.head_count

    @property
    def key_length(self) -> int:
        return self.number("attention.key_length") or self._head_length

    @property
    def value_length(self) -> int:
        return self.number("attention.value_length") or self._head_length

    @property
    def _head_length(self) -> int:
        return self.embedding_length // self.head_count if self.head_count else 0

    @property
    def sliding_window(self) -> int:
        return self.number("attention.sliding_window")

    @property
    def adds_bos(self) -> bool:
        """Whether the tokenizer puts a BOS before every text. Without a word in the file, the old kind of tokenizer does."""
        metadata = self.metadata
        return bool(metadata.get("tokenizer.ggml.add_bos_token", metadata.get("tokenizer.ggml.model") == "llama"))

    @property
    def pooling_type(self) -> int | None:
        """How token vectors become one; None where the model gives text rather than a vector."""
        value = self.metadata.get(f"{self.architecture}.pooling_type")
        return value if isinstance(value, int) else None

    @property
    def chat_template(self) -> str | None:
        """The Jinja template; None where there is none, or an empty one."""
        value = self.metadata.get("tokenizer.chat_template")
        return value if isinstance(value, str) and value.strip() else None


def human_count(count: int) -> str:
    """A count of parameters as model cards write it.

    >>> human_count(134_515_008), human_count(8_030_261_248), human_count(7_000_000_000), human_count(512)
    ('134.52M', '8.0B', '7B', '512')

    Source: ollama@v0.32 format/format.go, HumanNumber.
    """
    for unit, letter, digits in ((_BILLION, "B", 1), (_MILLION, "M", 2)):
        if count >= unit:
            return f"{count // unit}{letter}" if count % unit == 0 else f"{count / unit:.{digits}f}{letter}"
    return f"{count / _THOUSAND:.0f}K" if count >= _THOUSAND else str(count)


def read_info(path: Path) -> GgufInfo:
    """The file's metadata, read once for as long as its size and time stay the same. Raises GgufError and OSError."""
    stat = path.stat()
    return _read(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=256)
def _read(path: Path, _inode: int, _size_bytes: int, _modified_ns: int) -> GgufInfo:
    return GgufInfo.of(read_header(path))
