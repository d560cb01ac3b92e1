from corral.cli.show import card

INFO = {
    "general.architecture": "llama",
    "general.parameter_count": 1_375_744,
    "llama.attention.layer_norm_rms_epsilon": 1e-05,
    "llama.context_length": 4096,
    "llama.embedding_length": 512,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.merges": ["Ġ t"],
    "tokenizer.ggml.token_type": [1] * 270,
    "tokenizer.ggml.tokens": ["Ā", "ā", "Ă", *map(str, range(267))],
    "tokenizer.ggml.scores": None,
}
ANSWER = {
    "details": {"family": "llama", "parameter_size": "1.38M", "quantization_level": "F16"},
    "capabilities": ["completion"],
    "parameters": 'temperature              0.5\nnum_ctx                  1024\nstop                     "a b"',
    "system": "You are Mario.\n\n  You jump. \nYou run.",
    "license": "MIT\nApache",
    "model_info": INFO,
    "tensors": [
        {"name": "blk.10.attn_q.weight", "type": "F16", "shape": [512, 512]},
        {"name": "blk.2.attn_q.weight", "type": "F16", "shape": [512, 512]},
        {"name": "output_norm.weight", "type": "F32", "shape": [512]},
        {"name": "output.weight", "type": "F16", "shape": [512, 270]},
    ],
}
MODEL = """\
  Model
    architecture        llama
    parameters          1.38M
    context length      4096
    embedding length    512
    quantization        F16

  Capabilities
    completion

"""


def test_card_has_a_section_for_what_there_is() -> None:
    bare = {key: ANSWER[key] for key in ("details", "capabilities", "model_info")}
    assert card(bare, verbose=False) == MODEL


def test_card_shows_the_head_of_long_texts() -> None:
    assert card(ANSWER, verbose=False) == MODEL + (
        '  Parameters\n    temperature    0.5\n    num_ctx        1024\n    stop           "a b"\n\n'
        "  System\n    You are Mario.\n    You jump.\n    ...\n\n"
        "  License\n    MIT\n    Apache\n\n"
    )


def test_card_verbose_adds_metadata_and_tensors() -> None:
    answer = {key: ANSWER[key] for key in ("details", "capabilities", "model_info", "tensors")}
    assert (
        card(answer, verbose=True)
        == MODEL
        + """\
  Metadata
    general.architecture                      llama
    general.parameter_count                   1.375744e+06
    llama.attention.layer_norm_rms_epsilon    1e-05
    llama.context_length                      4096
    llama.embedding_length                    512
    tokenizer.ggml.add_bos_token              false
    tokenizer.ggml.merges                     [Ġ t]
    tokenizer.ggml.scores                     <nil>
    tokenizer.ggml.token_type                 [1 1 1 ...+267 more]
    tokenizer.ggml.tokens                     [Ā ā Ă ...+267 more]

  Tensors
    output.weight           F16    [512 270]
    output_norm.weight      F32    [512]
    blk.2.attn_q.weight     F16    [512 512]
    blk.10.attn_q.weight    F16    [512 512]

"""
    )


def test_card_shows_what_sees_and_long_contexts_in_full() -> None:
    projector = {
        "general.architecture": "clip",
        "general.parameter_count": 595_500_000,
        "clip.vision.embedding_length": 1152,
        "clip.vision.projection_dim": 2560,
    }
    info = INFO | {"llama.context_length": 1_048_576}
    text = card({"details": {}, "capabilities": ["vision"], "projector_info": projector, "model_info": info}, verbose=False)
    assert "    context length      1048576\n" in text
    assert text.endswith(
        "  Capabilities\n    vision\n\n"
        "  Projector\n    architecture        clip\n    parameters          595.50M\n"
        "    embedding length    1152\n    dimensions          2560\n\n"
    )
