"""Writes a small model without attention, whose memory is one state a sequence: what it has read it cannot unread."""

from pathlib import Path

import gguf
import numpy as np

from tests.support.gguf_files import Array, _finish, _tokens, _write_tokenizer


def write_mamba(path: Path, *, vocab: int = 320, layers: int = 2, width: int = 32, seed: int = 0) -> Path:
    """A mamba with random weights, the same for the same `seed`. `<|im_end|>` ends its answers."""
    tokens = _tokens(["<|im_end|>"])
    tokens += [(f"w{number}", gguf.TokenType.NORMAL) for number in range(len(tokens), vocab)]
    random, inner, states, rank, kernel = np.random.default_rng(seed), 2 * width, 8, 4, 4

    def weights(rows: int, columns: int) -> Array:
        return np.asarray(random.standard_normal((rows, columns)) / columns**0.5, np.float32)

    ones = np.ones(width, np.float32)
    tensors: dict[str, Array] = {"token_embd.weight": weights(len(tokens), width), "output_norm.weight": ones}
    tensors["output.weight"] = weights(len(tokens), width)
    for layer in range(layers):
        block = {
            "attn_norm.weight": ones,
            "ssm_in.weight": weights(2 * inner, width),
            "ssm_conv1d.weight": weights(inner, kernel),
            "ssm_conv1d.bias": np.zeros(inner, np.float32),
            "ssm_x.weight": weights(rank + 2 * states, inner),
            "ssm_dt.weight": weights(inner, rank),
            "ssm_dt.bias": np.zeros(inner, np.float32),
            "ssm_a": -np.tile(np.arange(1, states + 1, dtype=np.float32) / states, (inner, 1)),
            "ssm_d": np.ones(inner, np.float32),
            "ssm_out.weight": weights(width, inner),
        }
        tensors |= {f"blk.{layer}.{part}": tensor for part, tensor in block.items()}

    out = gguf.GGUFWriter(path, "mamba")
    out.add_name("recurrent")
    out.add_context_length(2048)
    out.add_embedding_length(width)
    out.add_feed_forward_length(0)
    out.add_head_count(0)
    out.add_block_count(layers)
    out.add_ssm_conv_kernel(kernel)
    out.add_ssm_inner_size(inner)
    out.add_ssm_state_size(states)
    out.add_ssm_time_step_rank(rank)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    _write_tokenizer(out, tokens, eos="<|im_end|>", bos=None, jinja=None)
    _finish(out, tensors, {})
    return path
