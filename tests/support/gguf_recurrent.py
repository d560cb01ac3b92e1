"""Writes small models whose memory is a state, alone or beside attention: what they have read they cannot unread."""

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


def write_hybrid(path: Path, *, vocab: int = 320, width: int = 64, heads: int = 4, kv_heads: int = 2, seed: int = 0) -> Path:
    """An lfm2 with random weights: layers of short convolutions and of attention by turns. `<|im_end|>` ends its answers."""
    tokens = _tokens(["<|im_end|>"])
    tokens += [(f"w{number}", gguf.TokenType.NORMAL) for number in range(len(tokens), vocab)]
    random, layers, kernel, ff, head_size = np.random.default_rng(seed), 4, 3, 2 * width, width // heads

    def weights(rows: int, columns: int) -> Array:
        return np.asarray(random.standard_normal((rows, columns)) / columns**0.5, np.float32)

    ones = np.ones(width, np.float32)
    tensors: dict[str, Array] = {"token_embd.weight": weights(len(tokens), width), "token_embd_norm.weight": ones}
    tensors["output.weight"] = weights(len(tokens), width)
    for layer in range(layers):
        block = {
            "attn_norm.weight": ones,
            "ffn_norm.weight": ones,
            "ffn_gate.weight": weights(ff, width),
            "ffn_up.weight": weights(ff, width),
            "ffn_down.weight": weights(width, ff),
        }
        if layer % 2:
            norm, kv_width = np.ones(head_size, np.float32), head_size * kv_heads
            block |= {"attn_q_norm.weight": norm, "attn_k_norm.weight": norm}
            block |= {"attn_q.weight": weights(width, width), "attn_output.weight": weights(width, width)}
            block |= {"attn_k.weight": weights(kv_width, width), "attn_v.weight": weights(kv_width, width)}
        else:
            block |= {"shortconv.conv.weight": weights(width, kernel), "shortconv.out_proj.weight": weights(width, width)}
            block["shortconv.in_proj.weight"] = weights(3 * width, width)
        tensors |= {f"blk.{layer}.{part}": tensor for part, tensor in block.items()}

    out = gguf.GGUFWriter(path, "lfm2")
    out.add_name("hybrid")
    out.add_context_length(4096)
    out.add_embedding_length(width)
    out.add_feed_forward_length(ff)
    out.add_block_count(layers)
    out.add_head_count(heads)
    out.add_head_count_kv([kv_heads if layer % 2 else 0 for layer in range(layers)])
    out.add_shortconv_l_cache(kernel)
    out.add_layer_norm_rms_eps(1e-5)
    out.add_vocab_size(len(tokens))
    out.add_file_type(gguf.LlamaFileType.ALL_F32)
    _write_tokenizer(out, tokens, eos="<|im_end|>", bos=None, jinja=None)
    _finish(out, tensors, {})
    return path
