"""Writes small real projectors, so that a test has a model that sees or hears on the whole path: picture, encoder, decode.

What a projector makes of a picture means nothing, for its weights are random; but it is another thing for every picture, and
the same for the same one. Each kind stands for what is its own of a family: `mlp` for one picture that is one run of tokens,
`gemma3` for attention that looks ahead, `qwen2vl` for a size that depends on the picture and positions in two dimensions,
`idefics3` for a picture that is cut into several, `ultravox` for sounds.
"""

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import gguf
import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.support.gguf_files import Array, write_random

ProjectorKind = Literal["mlp", "gemma3", "qwen2vl", "idefics3", "ultravox"]
WIDTH: Final = 64  # of the language models that go with these projectors
MLP_TOKENS: Final = 16  # of every picture for an `mlp`
SOUND_TOKENS: Final = 75  # of every 30 seconds, begun ones included, for an `ultravox`
_VIT: Final = 32  # width of the encoders
_FF: Final = 64
_MELS: Final = 16
_STACK: Final = 20
_FRAMES: Final = 1500
_PATCH: Final = 7
_SIDE: Final = 28
_TYPES: Final = {"qwen2vl": "qwen2vl_merger"}
_SPECIAL: Final = ("<|im_start|>", "<fake_token_around_image>", "<global-img>", "\n\n")  # what an idefics3 puts around pieces
_MERGES: Final = {"gemma3": 2, "idefics3": 2, "qwen2vl": 2}


def write_projector(
    path: Path,
    kind: ProjectorKind = "mlp",
    *,
    width: int = WIDTH,
    layers: int = 2,
    side: int = _SIDE,
    vit: int = _VIT,
    ff: int = _FF,
    seed: int = 0,
) -> Path:
    """A projector for a language model that is `width` wide. The same for the same arguments."""
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> Array:
        return np.asarray(random.standard_normal(shape) / np.prod(shape[1:]) ** 0.5, np.float32)

    out = gguf.GGUFWriter(path, "clip")
    out.add_name(f"random {kind}")
    out.add_string("clip.projector_type", _TYPES.get(kind, kind))
    what = "audio" if kind == "ultravox" else "vision"
    out.add_bool(f"clip.has_{what}_encoder", True)
    out.add_bool("clip.use_gelu", True)
    for key, value in {
        "embedding_length": vit,
        "feed_forward_length": ff,
        "block_count": layers,
        "projection_dim": width,
        "attention.head_count": 4,
    }.items():
        out.add_uint32(f"clip.{what}.{key}", value)
    out.add_float32(f"clip.{what}.attention.layer_norm_epsilon", 1e-5)
    if kind == "ultravox":
        out.add_uint32("clip.audio.num_mel_bins", _MELS)
        out.add_uint32("clip.audio.projector.stack_factor", _STACK)
        tensors = _hearing(weights, width)
    else:
        _write_picture_keys(out, kind, side)
        tensors = _seeing(weights, kind, width, side, vit)
    prefix = what[0]
    for layer in range(layers):
        tensors |= {f"{prefix}.blk.{layer}.{name}": tensor for name, tensor in _block(weights, vit, ff).items()}
        if kind == "ultravox":
            del tensors[f"{prefix}.blk.{layer}.attn_k.bias"]
    for name, tensor in tensors.items():
        out.add_tensor(name, tensor)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def _write_picture_keys(out: gguf.GGUFWriter, kind: ProjectorKind, side: int) -> None:
    out.add_uint32("clip.vision.image_size", side)
    out.add_uint32("clip.vision.patch_size", _PATCH)
    out.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    out.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
    if merge := _MERGES.get(kind):
        out.add_uint32("clip.vision.projector.scale_factor", merge)
        out.add_uint32("clip.vision.spatial_merge_size", merge)
    if kind == "idefics3":
        out.add_uint32("clip.vision.preproc_image_size", 2 * side)


def _seeing(weights: Any, kind: ProjectorKind, width: int, side: int, vit: int) -> dict[str, Array]:
    patches = (side // _PATCH) ** 2
    merged = vit * _MERGES.get(kind, 1) ** 2
    tensors: dict[str, Array] = {"v.patch_embd.weight": weights(vit, 3, _PATCH, _PATCH)}
    if kind == "qwen2vl":
        tensors["v.patch_embd.weight.1"] = weights(vit, 3, _PATCH, _PATCH)
    else:
        tensors |= {"v.patch_embd.bias": weights(vit), "v.position_embd.weight": weights(patches, vit)}
    if kind != "mlp":
        tensors |= {"v.post_ln.weight": np.ones(vit, np.float32), "v.post_ln.bias": np.zeros(vit, np.float32)}
    match kind:
        case "mlp":
            tensors |= _mlp(weights, vit, width)
        case "qwen2vl":
            tensors |= _mlp(weights, merged, width)
        case "gemma3":
            tensors |= {"mm.input_projection.weight": weights(vit, width), "mm.soft_emb_norm.weight": np.ones(vit, np.float32)}
        case "idefics3":
            tensors["mm.model.fc.weight"] = weights(width, merged)
    return tensors


def _mlp(weights: Any, inner: int, width: int) -> dict[str, Array]:
    return {
        "mm.0.weight": weights(inner, inner),
        "mm.0.bias": weights(inner),
        "mm.2.weight": weights(width, inner),
        "mm.2.bias": weights(width),
    }


def _hearing(weights: Any, width: int) -> dict[str, Array]:
    return {
        "a.conv1d.1.weight": np.asarray(weights(_VIT, _MELS, 3), np.float16),
        "a.conv1d.1.bias": weights(_VIT, 1),
        "a.conv1d.2.weight": np.asarray(weights(_VIT, _VIT, 3), np.float16),
        "a.conv1d.2.bias": weights(_VIT, 1),
        "a.position_embd.weight": weights(_FRAMES, _VIT),
        "a.post_ln.weight": np.ones(_VIT, np.float32),
        "a.post_ln.bias": np.zeros(_VIT, np.float32),
        "mm.a.mlp.1.weight": weights(2 * _FF, _VIT * _STACK),
        "mm.a.mlp.2.weight": weights(width, _FF),
        "mm.a.norm_pre.weight": np.ones(_VIT * _STACK, np.float32),
        "mm.a.norm_mid.weight": np.ones(_FF, np.float32),
    }


def _block(weights: Any, vit: int, ff: int) -> Mapping[str, Array]:
    block: dict[str, Array] = {}
    for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
        block |= {f"{part}.weight": weights(vit, vit), f"{part}.bias": weights(vit)}
    for part in ("ln1", "ln2"):
        block |= {f"{part}.weight": np.ones(vit, np.float32), f"{part}.bias": np.zeros(vit, np.float32)}
    return block | {
        "ffn_up.weight": weights(ff, vit),
        "ffn_up.bias": weights(ff),
        "ffn_down.weight": weights(vit, ff),
        "ffn_down.bias": weights(vit),
    }


def write_seeing(folder: Path, kind: ProjectorKind = "mlp", *, jinja: str | None = None, **model: Any) -> tuple[Path, Path]:
    """A language model with random weights and a projector for it."""
    archs = {"gemma3": "gemma3", "qwen2vl": "qwen2vl"}
    settings: dict[str, Any] = {"arch": archs.get(kind, "llama"), "width": WIDTH, "jinja": jinja, "special": _SPECIAL} | model
    text = write_random(folder / "text.gguf", **settings)
    return text, write_projector(folder / "mmproj.gguf", kind)


# Pictures and sounds


def picture(seed: int = 0, size: tuple[int, int] = (28, 28), form: str = "PNG") -> bytes:
    """A picture of noise, another one for another seed."""
    random = np.random.default_rng(seed)
    pixels: npt.NDArray[np.uint8] = random.integers(0, 256, (size[1], size[0], 3), np.uint8)
    with io.BytesIO() as file:
        Image.fromarray(pixels).save(file, form)
        return file.getvalue()


def sound(seconds: float = 0.5, *, hertz: float = 440.0, rate: int = 16_000) -> bytes:
    """A WAV of one tone."""
    times = np.arange(int(seconds * rate)) / rate
    samples = (np.sin(times * hertz * 2 * np.pi) * 20_000).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, rate, rate * 2, 2, 16)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body
