"""Writes small real GGUFs, so that a test has a model of any family on the whole path: template, tokenizer, decode, sampling.

`write_scripted` makes a model that says one fixed text whatever it is asked; `write_random` one with random weights, for what
needs attention to matter. Both run in llama.cpp. Every byte is tokenized (`gpt2` tokenizer over the 256 byte letters).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Token = tuple[str, gguf.TokenType]


def byte_letters() -> list[str]:
    """The letter that stands for each of the 256 bytes in a byte-level BPE vocabulary."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    spare = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def _cut(say: str, taken: Iterable[str], size: int = 3) -> list[str]:
    """`say` in pieces of `size` or more, each different from all others and from `taken`."""
    used, pieces, at = set(taken), list[str](), 0
    while at < len(say):
        end = at + size
        while say[at:end] in used and end < len(say):
            end += 1
        piece = say[at:end]
        while piece in used and pieces:
            before = pieces.pop()
            used.discard(before)
            piece = before + piece
        used.add(piece)
        pieces.append(piece)
        at = end
    return pieces


def _tokens(specials: Iterable[str]) -> list[Token]:
    letters = byte_letters()
    normal: list[Token] = [(letter, gguf.TokenType.NORMAL) for letter in letters]
    normal.append((letters[0x20] + "t", gguf.TokenType.NORMAL))  # the one merge: the tokenizer wants a list that is not empty
    return normal + [(text, gguf.TokenType.CONTROL) for text in dict.fromkeys(specials)]


def _pieces_around(say: str, taken: set[str], controls: Sequence[str]) -> list[Token]:
    """With these texts as control tokens. Where what is between two of them has been a piece before, the second is none."""
    pieces: list[Token] = []
    held = ""
    for part in re.split(f"({'|'.join(map(re.escape, controls))})", say):
        used = {*taken, *(text for text, _ in pieces)}
        if held or part not in controls:
            part = held + part
            held = part if part in used else ""
            pieces += [] if held else [(piece, gguf.TokenType.USER_DEFINED) for piece in _cut(part, used)]
        else:
            pieces.append((part, gguf.TokenType.CONTROL))
    return pieces


def _pieces(say: str, tokens: list[Token], *, split_characters: bool, controls: Sequence[str] = ()) -> list[Token]:
    taken = {text for text, _ in tokens}
    if controls:
        return _pieces_around(say, taken, controls)
    if not split_characters:
        return [(piece, gguf.TokenType.USER_DEFINED) for piece in _cut(say, taken)]
    letters = byte_letters()
    spelled = "".join(letters[byte] for byte in say.encode())
    return [(piece, gguf.TokenType.NORMAL) for piece in _cut(spelled, taken)]


def _write_tokenizer(out: gguf.GGUFWriter, tokens: list[Token], *, eos: str, bos: str | None, jinja: str | None) -> None:
    texts = [text for text, _ in tokens]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(texts)
    out.add_token_types([kind for _, kind in tokens])
    out.add_token_merges([f"{byte_letters()[0x20]} t"])
    out.add_bos_token_id(texts.index(bos or eos))
    out.add_eos_token_id(texts.index(eos))
    out.add_pad_token_id(texts.index(eos))
    out.add_add_bos_token(bos is not None)
    if jinja is not None:
        out.add_chat_template(jinja)


def _write_shape(out: gguf.GGUFWriter, *, context: int, width: int, layers: int, ff: int, heads: int, kv_heads: int) -> None:
    out.add_context_length(context)
    out.add_embedding_length(width)
    out.add_block_count(layers)
    out.add_feed_forward_length(ff)
    out.add_head_count(heads)
    out.add_head_count_kv(kv_heads)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_dimension_count(width // heads)
    out.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    out.add_quantization_version(2)


def _finish(out: gguf.GGUFWriter, tensors: Mapping[str, Array], metadata: Mapping[str, Any]) -> None:
    for key, value in metadata.items():
        out.add_key_value(key, value, _kind(value))
    for name, tensor in tensors.items():
        out.add_tensor(name, tensor)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _kind(value: object) -> gguf.GGUFValueType:
    return gguf.GGUFValueType.UINT32 if type(value) is int else gguf.GGUFValueType.get_type(value)


def write_scripted(
    path: Path,
    say: str,
    *,
    jinja: str | None = None,
    name: str = "scripted",
    eos: str = "<|im_end|>",
    special: Sequence[str] = ("<|im_start|>",),
    context: int = 4096,
    bos: str | None = None,
    arch: str = "llama",
    split_characters: bool = False,
    controls: Sequence[str] = (),
    metadata: Mapping[str, Any] | None = None,
    split_tensors: int = 0,
) -> Path:
    """A model of about 1 MB that answers every prompt with `say`, then `eos`. Greedy or not makes no difference.

    Attention and feed-forward are zero, so the next token depends on the last one alone: each piece of `say` (about three
    characters, `split_characters`: three bytes, also inside a character) is followed by the next one, and any token that is
    no piece is followed by the first: a prompt that itself ends in a piece goes on from there. With `bos` the tokenizer puts
    it before every prompt. `controls` are control tokens, each of them once in `say`. `metadata` adds or replaces keys.
    With `split_tensors` the file is `path-00001-of-….gguf` and those after it, of so many tensors each.
    `arch` other than llama names the model so and leaves all else: a file that no engine can load.
    """
    tokens = _tokens([eos, *special, *([bos] if bos else [])])
    pieces = _pieces(say, tokens, split_characters=split_characters, controls=controls)
    eos_id, first = 257, len(tokens)
    tokens += pieces
    width, ff = -(-(len(pieces) + 1) // 256) * 256, 32

    state = np.zeros(len(tokens), np.int64)  # 0: any token that is no piece; i: the i-th piece
    state[first:] = np.arange(1, len(pieces) + 1)
    embed, head = np.zeros((len(tokens), width), np.float16), np.zeros((len(tokens), width), np.float16)
    embed[np.arange(len(tokens)), state] = 1
    head[[*range(first, len(tokens)), eos_id], np.arange(len(pieces) + 1)] = 2

    out = gguf.GGUFWriter(path, arch, split_max_tensors=split_tensors)
    out.add_name(name)
    _write_shape(out, context=context, width=width, layers=1, ff=ff, heads=4, kv_heads=4)
    out.add_vocab_size(len(tokens))
    _write_tokenizer(out, tokens, eos=eos, bos=bos, jinja=jinja)
    square, one = np.zeros((width, width), np.float16), np.ones(width, np.float32)
    up, down = np.zeros((ff, width), np.float16), np.zeros((width, ff), np.float16)
    _finish(
        out,
        {
            "token_embd.weight": embed,
            "output_norm.weight": one,
            "output.weight": head,
            "blk.0.attn_norm.weight": one,
            **{f"blk.0.attn_{part}.weight": square for part in ("q", "k", "v", "output")},
            "blk.0.ffn_norm.weight": one,
            "blk.0.ffn_gate.weight": up,
            "blk.0.ffn_up.weight": up,
            "blk.0.ffn_down.weight": down,
        },
        metadata or {},
    )
    return path


def write_random(
    path: Path,
    *,
    arch: Literal["llama", "gemma3", "qwen2vl", "qwen3"] = "llama",
    vocab: int = 512,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    ff: int = 128,
    context: int = 2048,
    window: int = 64,
    seed: int = 0,
    name: str = "random",
    eos: str = "<|im_end|>",
    special: Sequence[str] = ("<|im_start|>",),
    bos: str | None = None,
    jinja: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    more_tensors: Mapping[str, Array] | None = None,
) -> Path:
    """A model with random weights, the same for the same `seed`. `gemma3` attends over a sliding `window` in most layers,
    `qwen2vl` has positions in several dimensions.

    `more_tensors` are there besides. `vocab` is filled up with words `w300`, `w301` …; it is never smaller than the 256 bytes
    and the special tokens.
    """
    tokens = _tokens([eos, *special, *([bos] if bos else [])])
    tokens += [(f"w{number}", gguf.TokenType.NORMAL) for number in range(len(tokens), vocab)]
    random, head_size = np.random.default_rng(seed), width // heads

    def weights(rows: int, columns: int) -> Array:
        return np.asarray(random.standard_normal((rows, columns)) / columns**0.5, np.float16)

    one = np.ones(width, np.float32)
    tensors: dict[str, Array] = {"token_embd.weight": weights(len(tokens), width), "output_norm.weight": one}
    if arch != "gemma3":
        tensors["output.weight"] = weights(len(tokens), width)
    for layer in range(layers):
        block = {
            "attn_norm": one,
            "attn_q": weights(width, width),
            "attn_k": weights(head_size * kv_heads, width),
            "attn_v": weights(head_size * kv_heads, width),
            "attn_output": weights(width, width),
            "ffn_norm": one,
            "ffn_gate": weights(ff, width),
            "ffn_up": weights(ff, width),
            "ffn_down": weights(width, ff),
        }
        if arch in ("gemma3", "qwen3"):
            block |= {"attn_q_norm": np.ones(head_size, np.float32), "attn_k_norm": np.ones(head_size, np.float32)}
        if arch == "gemma3":
            block |= {"post_attention_norm": one, "post_ffw_norm": one}
        tensors |= {f"blk.{layer}.{part}.weight": tensor for part, tensor in block.items()}

    out = gguf.GGUFWriter(path, arch)
    out.add_name(name)
    _write_shape(out, context=context, width=width, layers=layers, ff=ff, heads=heads, kv_heads=kv_heads)
    if arch == "llama":
        out.add_vocab_size(len(tokens))
    elif arch == "qwen2vl":
        out.add_rope_dimension_sections([head_size // 4, head_size // 8, head_size // 8, 0])
    else:
        out.add_key_length(head_size)
        out.add_value_length(head_size)
    if arch == "gemma3":
        out.add_sliding_window(window)
    _write_tokenizer(out, tokens, eos=eos, bos=bos, jinja=jinja)
    _finish(out, tensors | dict(more_tensors or {}), metadata or {})
    return path
