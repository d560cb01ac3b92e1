"""What llama.cpp's own tools make of a prompt with images: `python -m tests.support.mtmd_oracle MODEL PROJECTOR PROMPT FILE…`.

Prints the tokens of the prompt, the positions that they take, and the likeliest next tokens with the logarithms of their
probabilities, as JSON. The prompt has `<__media__>` where the files are shown.
"""

import ctypes
import json
import math
import sys
from pathlib import Path

import llama_cpp.llama_cpp as api
import llama_cpp.mtmd_cpp as mtmd
import numpy as np


def main() -> None:
    model_path, projector_path, prompt, *files = sys.argv[1:]
    silent = api.llama_log_callback(lambda _level, _text, _data: None)
    api.llama_log_set(silent, None)
    mtmd.mtmd_helper_log_set(silent, None)
    api.llama_backend_init()
    model = api.llama_model_load_from_file(model_path.encode(), api.llama_model_default_params())
    params = api.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads = 2048, 512, 512, 1
    params.swa_full = True
    context = api.llama_init_from_model(model, params)
    settings = mtmd.mtmd_context_params_default()
    settings.n_threads, settings.use_gpu = 1, False
    projector = mtmd.mtmd_init_from_file(projector_path.encode(), model, settings)
    bitmaps = []
    for file in files:
        data = Path(file).read_bytes()
        buffer = (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
        bitmaps.append(mtmd.mtmd_helper_bitmap_init_from_buf(projector, buffer, len(data), False))
    chunks = mtmd.mtmd_input_chunks_init()
    text = mtmd.mtmd_input_text(prompt.encode(), len(prompt.encode()), True, True)
    pointers = (mtmd.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
    assert mtmd.mtmd_tokenize(projector, chunks, ctypes.byref(text), pointers, len(bitmaps)) == 0
    past = api.llama_pos(0)
    status = mtmd.mtmd_helper_eval_chunks(projector, context, chunks, 0, 0, 512, True, ctypes.byref(past))
    assert status == 0
    size = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
    logits = np.ctypeslib.as_array(api.llama_get_logits_ith(context, -1), (size,)).astype(np.float64)
    total = logits.max() + math.log(np.exp(logits - logits.max()).sum())
    best = np.argsort(-logits, kind="stable")[:5]
    tokens = mtmd.mtmd_helper_get_n_tokens(chunks)
    print(json.dumps({"tokens": tokens, "positions": past.value, "top": [float(logits[i] - total) for i in best]}))  # noqa: T201


if __name__ == "__main__":
    main()
