"""Writes small BERTs with random weights, as GGUF: real embedding models, and their weights for a reference in numpy."""

import string
from pathlib import Path
from typing import Any, Final, Literal

import gguf
import numpy as np

from tests.support.bert import Array, Bert, WordPiece

_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SPACE: Final = "\u2581"  # before the first piece of a word, where WordPiece has "##" before the others
_NAMES: Final = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "classifier.dense": "cls",
    "classifier.out_proj": "cls.output",
}
_LAYER_NAMES: Final = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_POOLING: Final = {"none": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}

Pooling = Literal["none", "mean", "cls", "last", "rank"]


def vocabulary() -> list[str]:
    """The special tokens, each character as a beginning and as an end of a word, and some words."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = [*characters, *(f"##{char}" for char in characters), "the", "##ing", "sky", "blue", "word", "hello"]
    return [*_SPECIAL, *pieces]


def random_bert(
    *, width: int = 64, layers: int = 2, heads: int = 4, ff: int = 128, context: int = 64, seed: int = 0, classes: int = 0
) -> Bert:
    """Weights rounded to 16 bits, so that the file holds them exactly. With `classes` it has a classifier behind it."""
    random = np.random.default_rng(seed)
    weights: dict[str, Array] = {}

    def draw(*shape: int, scale: float = 1.0) -> Array:
        return np.asarray(random.standard_normal(shape) * scale, np.float16).astype(np.float32)

    def linear(name: str, rows: int, columns: int) -> None:
        weights[f"{name}.weight"] = draw(rows, columns, scale=columns**-0.5)
        weights[f"{name}.bias"] = draw(rows, scale=0.1)

    def norm(name: str) -> None:
        weights[f"{name}.weight"] = np.asarray(1 + draw(width, scale=0.1), np.float32)
        weights[f"{name}.bias"] = draw(width, scale=0.1)

    for name, rows in (("word", len(vocabulary())), ("position", context), ("token_type", 2)):
        weights[f"embeddings.{name}_embeddings.weight"] = draw(rows, width)
    norm("embeddings.LayerNorm")
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{at}.attention.{part}", width, width)
        norm(f"{at}.attention.output.LayerNorm")
        linear(f"{at}.intermediate.dense", ff, width)
        linear(f"{at}.output.dense", width, ff)
        norm(f"{at}.output.LayerNorm")
    if classes:
        linear("classifier.dense", width, width)
        linear("classifier.out_proj", classes, width)
    return Bert(weights, layers, heads)


def tokenizer() -> WordPiece:
    return WordPiece({text: number for number, text in enumerate(vocabulary())})


def write_bert(path: Path, bert: Bert, *, pooling: Pooling | None = "mean", name: str = "random-bert") -> Path:
    """The model as a file. Without `pooling` it does not say how to make one vector of many."""
    context, width = bert.weights["embeddings.position_embeddings.weight"].shape
    out = gguf.GGUFWriter(path, "bert")
    out.add_name(name)
    out.add_context_length(context)
    out.add_embedding_length(width)
    out.add_block_count(bert.layers)
    out.add_feed_forward_length(len(bert.weights["encoder.layer.0.intermediate.dense.bias"]))
    out.add_head_count(bert.heads)
    out.add_layer_norm_eps(bert.epsilon)
    out.add_causal_attention(False)
    if pooling:
        out.add_uint32("bert.pooling_type", _POOLING[pooling])
    classes = len(bert.weights.get("classifier.out_proj.bias", ()))
    if classes > 1:
        out.add_classifier_output_labels([f"class {number}" for number in range(classes)])
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    out.add_quantization_version(2)
    _write_tokenizer(out)
    for key, array in bert.weights.items():
        out.add_tensor(_tensor_name(key), _stored(key, array))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _write_tokenizer(out: gguf.GGUFWriter) -> None:
    texts = vocabulary()
    out.add_tokenizer_model("bert")
    out.add_token_list([_piece(text) for text in texts])
    out.add_token_types([gguf.TokenType.CONTROL if text in _SPECIAL else gguf.TokenType.NORMAL for text in texts])
    out.add_token_type_count(2)
    out.add_pad_token_id(0)
    out.add_unk_token_id(1)
    out.add_bos_token_id(2)
    out.add_sep_token_id(3)
    out.add_eos_token_id(3)
    out.add_mask_token_id(4)


def _piece(text: str) -> str:
    if text in _SPECIAL:
        return text
    return text.removeprefix("##") if text.startswith("##") and len(text) > 2 else _SPACE + text


def _tensor_name(key: str) -> str:
    name, _, kind = key.rpartition(".")
    if name in _NAMES:
        return f"{_NAMES[name]}.{kind}"
    _, _, layer, part = name.split(".", 3)
    return f"blk.{layer}.{_LAYER_NAMES[part]}.{kind}"


def _stored(key: str, array: Array) -> Any:
    """Matrices in 16 bits; what is added, and the positions, in 32."""
    is_matrix = key.endswith(".weight") and array.ndim == 2 and "position" not in key and "token_type" not in key
    return array.astype(np.float16) if is_matrix else array
