"""BERT in numpy: what an embedding model should answer, computed without llama.cpp.

`Bert` is the forward pass over weights with the names that Hugging Face gives them. `SentenceModel` reads a folder of
sentence-transformers (safetensors, WordPiece vocabulary) and makes the vectors that the original does: mean of the tokens,
length 1. Slow and plain, and so a reference.
"""

import json
import math
import struct
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
_TYPES: Final[dict[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "I64": np.dtype("<i8")}
_erf = np.vectorize(math.erf, otypes=[np.float32])

POOLS: Final[Mapping[str, Callable[[Array], Array]]] = {
    "mean": lambda hidden: np.asarray(hidden.mean(axis=0)),
    "cls": lambda hidden: hidden[0],
    "last": lambda hidden: hidden[-1],
}


def normalised(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))


@dataclass(frozen=True, slots=True)
class Bert:
    """`weights` by names such as `encoder.layer.0.attention.self.query.weight`."""

    weights: Mapping[str, Array]
    layers: int
    heads: int
    epsilon: float = 1e-12

    def hidden(self, tokens: Sequence[int]) -> Array:
        """The last layer's vector of each token."""
        table = self.weights
        x = table["embeddings.word_embeddings.weight"][list(tokens)]
        x = x + table["embeddings.position_embeddings.weight"][: len(tokens)]
        x = x + table["embeddings.token_type_embeddings.weight"][0]
        x = self._norm("embeddings.LayerNorm", x)
        for layer in range(self.layers):
            x = self._layer(f"encoder.layer.{layer}", x)
        return x

    def scores(self, tokens: Sequence[int]) -> Array:
        """What the classifier says of the tokens. Of a query and a text: the higher the first number, the better they fit."""
        dense = np.tanh(self._linear("classifier.dense", self.hidden(tokens)[:1]))
        return np.asarray(self._linear("classifier.out_proj", dense)[0])

    def _layer(self, name: str, x: Array) -> Array:
        attended = self._linear(f"{name}.attention.output.dense", self._attention(f"{name}.attention.self", x))
        x = self._norm(f"{name}.attention.output.LayerNorm", x + attended)
        wide = self._linear(f"{name}.intermediate.dense", x)
        wide = wide * 0.5 * (1 + _erf(wide / math.sqrt(2)))
        return self._norm(f"{name}.output.LayerNorm", x + self._linear(f"{name}.output.dense", wide))

    def _attention(self, name: str, x: Array) -> Array:
        query, key, value = (self._by_head(self._linear(f"{name}.{part}", x)) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        return np.asarray((shares @ value).transpose(1, 0, 2).reshape(x.shape))

    def _by_head(self, x: Array) -> Array:
        return x.reshape(len(x), self.heads, -1).transpose(1, 0, 2)

    def _linear(self, name: str, x: Array) -> Array:
        return np.asarray(x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"])

    def _norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + self.epsilon)
        return np.asarray(centred / spread * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"])


@dataclass(frozen=True, slots=True)
class WordPiece:
    """BERT's tokenizer, lower-casing: the longest piece of a word that the vocabulary has, then the next."""

    vocabulary: Mapping[str, int]

    def tokens(self, text: str, *, most: int = 512) -> list[int]:
        """Token ids between [CLS] and [SEP], `most` of them with those two."""
        pieces = [piece for word in _words(text) for piece in self._pieces(word)]
        return [self.vocabulary["[CLS]"], *pieces[: most - 2], self.vocabulary["[SEP]"]]

    def pair(self, query: str, text: str, *, most: int = 512) -> list[int]:
        """Token ids of a query and a text, as a model that ranks reads them; the text cut to make them `most`."""
        asked, told = self.tokens(query), self.tokens(text)[1:-1]
        return [*asked, *told[: most - len(asked) - 1], asked[-1]]

    def _pieces(self, word: str) -> list[int]:
        found: list[int] = []
        at = 0
        while at < len(word):
            prefix = "##" if at else ""
            ends = range(len(word), at, -1)
            end = next((end for end in ends if prefix + word[at:end] in self.vocabulary), None)
            if end is None:
                return [self.vocabulary["[UNK]"]]
            found.append(self.vocabulary[prefix + word[at:end]])
            at = end
        return found


def _words(text: str) -> list[str]:
    plain = "".join(char for char in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(char) != "Mn")
    spaced = "".join(f" {char} " if _stands_alone(char) else char for char in plain)
    return spaced.split()


def _stands_alone(char: str) -> bool:
    is_symbol = char.isascii() and char.isprintable() and not char.isalnum() and char != " "
    return is_symbol or unicodedata.category(char).startswith("P") or 0x4E00 <= ord(char) <= 0x9FFF


@dataclass(frozen=True, slots=True)
class SentenceModel:
    """A sentence-transformers model of the BERT family with mean pooling, for example all-MiniLM-L6-v2."""

    bert: Bert
    tokenizer: WordPiece

    @classmethod
    def read(cls, folder: Path) -> "SentenceModel":
        config = json.loads((folder / "config.json").read_text())
        vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        weights = {name.removeprefix("bert."): array for name, array in read_safetensors(folder / "model.safetensors").items()}
        bert = Bert(weights, config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"])
        return cls(bert, WordPiece(vocabulary))

    def vector(self, text: str) -> Array:
        """The text's vector, of length 1."""
        return normalised(POOLS["mean"](self.bert.hidden(self.tokenizer.tokens(text))))


def read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Every tensor of the file; floats as float32."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + size])
    header.pop("__metadata__", None)
    tensors: dict[str, npt.NDArray[Any]] = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        raw = np.frombuffer(data[8 + size + begin : 8 + size + end], _TYPES[entry["dtype"]])
        tensors[name] = raw.reshape(entry["shape"]).astype(np.float32 if raw.dtype.kind == "f" else raw.dtype)
    return tensors
