"""The values that layers hand to each other. No behaviour, no dialect, no process knows more than these.

Those that cross to a worker process are frozen msgspec Structs; times are integers in nanoseconds.
"""

from typing import Any, Final, Literal, TypeAlias

import msgspec

FinishReason: TypeAlias = Literal["stop", "length"]


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that an assistant made. `arguments` keep the order in which the model wrote them."""

    name: str
    arguments: dict[str, Any]
    call_id: str = ""
    index: int = 0


PLACE: Final = "[img]"  # in a message's text: an image belongs there, and not before the text
PLACE_APART: Final = "\ue000img\ue000"  # the same, for a text in which the other one is text


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation. The role is any lower-case word; templates decide what it means."""

    role: str
    content: str = ""
    thinking: str = ""
    images: tuple[bytes, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str = ""
    tool_call_id: str = ""


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is drawn. Defaults are Ollama's; a temperature of 0 is greedy; a negative seed is random.

    What Ollama does not know has llama.cpp's names and defaults, by which it is off.
    Source: ollama@v0.32 api/types.go, DefaultOptions; llama.cpp common/common.h, common_params_sampling.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = -1
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64  # negative: the whole context
    dry_sequence_breakers: tuple[str, ...] = ("\n", ":", '"', "*")
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    mirostat: int = 0  # its version: 1 or 2; it draws by itself then, and of the others only temperature counts
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: tuple[tuple[int | str, float], ...] = ()  # tokens by number, or all tokens of a text; -inf: never


class Thought(msgspec.Struct, frozen=True, kw_only=True):
    """How a model's family marks what it thinks before it answers, and how long it may."""

    open: str
    close: str  # also what the engine goes on with where it ends a thought itself
    is_open: bool = False  # the prompt ends inside of it
    may_open: bool = True  # the answer may begin with one
    budget: int = -1  # tokens that it may have; negative: any number


class Grammar(msgspec.Struct, frozen=True, kw_only=True):
    """What a part of an answer must be: from behind the text `after` to the grammar's own end.

    After that the answer is free again; of several grammars each begins wherever its text comes up. Without a text there is
    only this one, and it is the whole answer, behind the thought where there is one: the answer ends where the grammar does.
    """

    text: str
    kind: Literal["lark", "gbnf"] = "lark"  # Lark as llguidance extends it, with %json for a schema; or llama.cpp's GBNF
    after: str = ""
    at_start: bool = False  # the text counts only where the answer begins with it, white space aside
    ends: bool = False  # the answer ends where this does, though it has a text
    is_json: bool = False  # or has JSON in it, and quotes nothing else: its numbers are made to end, as far as they may
    dictates: bool = True  # what it leaves no choice of is said undrawn; else it is drawn, in tokens of the model's own


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One generation, as an engine takes it: a rendered prompt and how to go on from it.

    The prompt is `prefix_tokens`, then the tokens of `prompt` (special tokens parsed; BOS where the model wants one
    and the text does not begin with it). It must leave room for one token of the answer: `num_ctx` tokens or more are a
    ContextOverflowError, never a cut.
    With a `suffix` the answer goes between the prompt and it: both are plain text then, put between the model's own tokens
    for that. A model without them refuses the job.
    `media` are the images and sounds that stand in place of `[img-0]`, `[img-1]` and so on in `prompt`, each of which is there
    at least once, in any order. A tag of any other number is text.
    Control tokens are no text, but for those whose names `spelled` lists: what an answer is taken apart by.
    """

    prompt: str
    media: tuple[bytes, ...] = ()
    spelled: tuple[str, ...] = ()
    thought: Thought | None = None  # None: whatever there is of it is the answer's text like any other
    grammars: tuple[Grammar, ...] = ()
    suffix: str = ""
    prefix_tokens: tuple[int, ...] = ()
    sampling: Sampling = Sampling()
    adapters: tuple[
        tuple[int, float], ...
    ] = ()  # those applied, by their places in the LoadSpec, and how much; (): all, as they are
    stop: tuple[str, ...] = ()
    num_predict: int = -1  # tokens to generate at most; negative: until the model ends or the context is full
    num_keep: int = 4  # tokens kept at the front when a full context is shifted
    num_ctx: int  # tokens of prompt and answer together; at most the engine's own n_ctx
    shift: bool = True  # on a full context drop the older half and go on; else end with "length"
    jump: bool = True  # all that a grammar dictates goes into one step; else each token has its own, as with logprobs
    logprobs: int = -1  # so many likeliest tokens beside each token of the answer; negative: no logprobs at all
    draft: int = -1  # tokens that a step may compute on a guess, at most; negative: as many as pay; 0: none
    client: str = ""  # who asks: clients share the engine evenly
    priority: int = 0  # lower goes first


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """How a generation ended and what it cost."""

    reason: FinishReason
    prompt_tokens: int  # the whole prompt, cached tokens included
    cached_tokens: int  # those of them that were not computed again
    prompt_ns: int  # time spent on the tokens that were computed
    thought_tokens: int = 0  # of the tokens generated, those up to the end of the thought
    eval_tokens: int  # tokens generated: dictated ones, a closing end-of-turn token and cut stop strings are among them
    eval_ns: int
    stop_text: str = ""  # the stop string that ended it, if one did
    draft_tokens: int = 0  # that were computed because the answer was guessed to go on with them
    confirmed_tokens: int = 0  # of the tokens generated, those that such a guess had right


class Begun(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a generation's cost once its prompt has been read; the numbers are those of its Finish."""

    prompt_tokens: int
    cached_tokens: int


class TokenChance(msgspec.Struct, frozen=True, array_like=True):
    """A token that might have been next, as bytes (it may be a part of a character), with the logarithm of its probability.

    The model's own probability: temperature and all else that has a say in the draw left aside.
    """

    piece: bytes
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """A token of an answer, and the likeliest tokens in its place, best first."""

    piece: bytes
    logprob: float
    top: tuple[TokenChance, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """What one generation gained since the last step: whole UTF-8 text, never a part of a character or of a stop string.

    Logprobs come with the step that drew their tokens, also while text is held back.
    """

    text: str
    finish: Finish | None = None
    logprobs: tuple[TokenLogprob, ...] = ()
    begun: Begun | None = None  # only of the first step


class EmbedJob(msgspec.Struct, frozen=True, kw_only=True):
    """Texts to make vectors of, as an engine takes them: one vector a text, in their order.

    With a `query` each text is read together with it by a model that ranks, and its vector is what the model's classifier
    says of the two: the first number is the higher, the better the text answers the query. Such a model takes no other jobs.
    """

    texts: tuple[str, ...]
    query: str | None = None
    num_ctx: int  # tokens of one text, special ones included; at most the engine's own n_ctx
    truncate: bool = True  # cut a longer text to what fits; else it is a ContextOverflowError


class Vectors(msgspec.Struct, frozen=True, array_like=True):
    """The vectors of the next `count` texts of a job, as the model gives them: nothing is normalised."""

    count: int
    data: bytes  # float32, little-endian, row by row
    prompt_tokens: int  # of these texts, after cutting


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model to load and how. Two requests whose specs are equal, `n_ctx` aside, share one engine."""

    model_path: str
    adapter_paths: tuple[str, ...] = ()
    projector_paths: tuple[str, ...] = ()  # what makes images and sounds into embeddings
    n_ctx: int  # tokens that one sequence may hold
    n_parallel: int  # sequences that may decode at once
    vocab_only: bool = False  # no weights: the engine tokenizes and does nothing else
    num_batch: int = 512  # tokens per engine step at most
    num_gpu: int = -1  # layers on a GPU; -1: as many as fit
    main_gpu: int = 0
    num_thread: int = 0  # 0: chosen for this machine, and fewer while other programs want its cores
    most_threads: int = 0  # to choose from; 0: one a physical core
    use_mmap: bool | None = None  # None: llama.cpp's own choice
    flash_attention: bool | None = None  # None: wherever the backend has it
    kv_cache_type: str = "f16"
    kv_ram_bytes: int = -1  # RAM for what was computed and is parked outside of KV memory; 0: none; -1: a share of what is free
    kv_dir: str = ""  # where on disk it outlives the engine; "": nowhere
    kv_disk_bytes: int = 0  # of that folder, whoever uses it
    kv_unified: bool = False  # one buffer of KV cells for all sequences; else each has its own
    limit_bytes: int = 0  # of memory that the engine may take in all, until it is told of another limit; 0: what is free


class EngineInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a loaded engine says of itself."""

    n_ctx: int  # tokens that one sequence may hold
    n_ctx_train: int
    n_parallel: int
    size_bytes: int  # weights, KV memory and compute buffers together
    vram_bytes: int  # the part of them on GPUs
    can_shift: bool
    can_displace: bool = False  # of more jobs than n_parallel it runs those that come first, and the others go on after them
    devices: tuple[str, ...] = ()  # as llama.cpp names them, for example "CPU" or "CUDA0: NVIDIA H200"
    media_encoded: int = 0  # images and sounds, or slices of large ones, that its projector has encoded since it was loaded
    cache_bytes: int = 0  # RAM of the prefix cache, beside `size_bytes`; it goes with the engine, and gives way to a limit
