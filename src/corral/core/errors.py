"""The one tree of errors that a caller of Corral can meet.

    CorralError
    ├── BadRequestError            400  the request itself is wrong
    │   ├── CapabilityError        400  the model cannot do what is asked
    │   ├── ContextOverflowError   400  the prompt does not fit; carries both numbers
    │   ├── RequestTooLargeError   413  a JSON body beyond what the server takes
    │   ├── UnsupportedEncodingError 415  a body packed in a way that the server does not know
    │   └── BodyStalledError       400  the client stopped sending in the middle of its request
    ├── UnauthorizedError          401
    ├── ForbiddenError             403
    ├── NotFoundError              404
    │   └── ModelNotFoundError     404
    ├── ModelBusyError             409  the model is in use, and what is asked needs it for itself
    ├── RequestCanceledError       499  the client left while it waited
    ├── ClientStalledError         499  the client left its answer unread
    ├── NotSupportedError          501  a documented part of the API that this version lacks
    ├── QueueFullError             503  too many requests wait
    ├── BodiesFullError            503  the requests that are being answered are too large together
    ├── ServerStoppingError        503  the server ends, and with it this answer
    ├── EngineError                500
    │   ├── EngineCrashedError     500  the worker died before or during an answer
    │   │   └── EngineLostError    500  it was dead before it had the job: nothing is lost by another try
    │   └── ModelLoadError         500  the worker could not load the model
    ├── StoreError                 500  the model store cannot be read or written
    │   └── ModelCorruptError      500  a manifest or blob of a model is damaged
    └── RegistryError              500  a pull or push failed

A class carries the HTTP `status` and a short stable `code`; each dialect in `api/` maps them to its own shape. A module that
has an error of its own puts it below one of these, whose status it keeps: a bad GGUF is a bad request.
The text says what went wrong, names the value, and says what to do. Texts that clients match on are
Ollama's, word for word.
"""


class CorralError(Exception):
    """Base of all errors that have an answer for the user. `str(error)` is what the user reads."""

    status: int = 500
    code: str = "internal_error"
    retry_after_s: int = 0  # when it is worth trying again; 0: nobody knows


class BadRequestError(CorralError):
    status = 400
    code = "bad_request"


class CapabilityError(BadRequestError):
    code = "capability_missing"


class ContextOverflowError(BadRequestError):
    """The prompt has more tokens than the context holds.

    The text has both of Ollama's wordings, as programs look for either to shorten a conversation by themselves.
    """

    code = "context_overflow"

    def __init__(self, prompt_tokens: int, num_ctx: int, is_least: bool = False) -> None:
        """`is_least`: the prompt has so many tokens or more; it is too long to be counted."""
        super().__init__(
            "the prompt is longer than the context length currently available to the model: request "
            f"({'at least ' if is_least else ''}{prompt_tokens} tokens) exceeds the available context size ({num_ctx} tokens); "
            "shorten the prompt or raise num_ctx"
        )
        self.prompt_tokens = prompt_tokens
        self.num_ctx = num_ctx
        self.is_least = is_least

    def __reduce__(self) -> tuple[type["ContextOverflowError"], tuple[int, int, bool]]:
        return type(self), (self.prompt_tokens, self.num_ctx, self.is_least)


class RequestTooLargeError(BadRequestError):
    status = 413
    code = "request_too_large"

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"the request has {size_bytes} bytes or more, and {limit_bytes} are taken; send less in one request")


class UnsupportedEncodingError(BadRequestError):
    status = 415
    code = "unsupported_encoding"

    def __init__(self, encoding: str) -> None:
        super().__init__(f"content-encoding {encoding!r} is not supported; send gzip, deflate or zstd, or the body as it is")


class BodyStalledError(BadRequestError):
    code = "body_stalled"

    def __init__(self, stall_s: float) -> None:
        super().__init__(f"nothing came of the rest of the request's body for {stall_s:g} seconds; send it in one go")


class UnauthorizedError(CorralError):
    status = 401
    code = "unauthorized"


class ForbiddenError(CorralError):
    status = 403
    code = "forbidden"


class NotFoundError(CorralError):
    status = 404
    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """No model of that name is in the store. `name` is spelled as it should be shown."""

    code = "model_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"model '{name}' not found")
        self.name = name


class ModelBusyError(CorralError):
    status = 409
    code = "model_busy"


class RequestCanceledError(CorralError):
    status = 499
    code = "request_canceled"

    def __init__(self) -> None:
        super().__init__("request canceled")


class ClientStalledError(CorralError):
    """The stream was not read for so long that its place on the model goes to others. Only the log has this text."""

    status = 499
    code = "client_stalled"

    def __init__(self, stall_s: float) -> None:
        super().__init__(f"the answer was not read for {stall_s:g} seconds and was given up; read the stream as it comes")


class NotSupportedError(CorralError):
    status = 501
    code = "not_supported"


class QueueFullError(CorralError):
    status = 503
    code = "queue_full"
    retry_after_s = 1

    def __init__(self) -> None:
        super().__init__("server busy, please try again.  maximum pending requests exceeded")


class BodiesFullError(CorralError):
    status = 503
    code = "bodies_full"
    retry_after_s = 5

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"server busy, please try again: the requests under way have {limit_bytes} bytes together, and no more are held"
        )


class ServerStoppingError(CorralError):
    status = 503
    code = "server_stopping"

    def __init__(self) -> None:
        super().__init__("the server is shutting down")


class EngineError(CorralError):
    code = "engine_error"


class EngineCrashedError(EngineError):
    """The worker is gone. Before the first token and after it the texts differ, as in Ollama."""

    code = "engine_crashed"

    def __init__(self, *, mid_answer: bool = False) -> None:
        super().__init__(
            "an error was encountered while running the model: unexpected EOF"
            if mid_answer
            else "model runner has unexpectedly stopped, this may be due to resource limitations "
            "or an internal error, check ollama server logs for details"
        )


class EngineLostError(EngineCrashedError):
    """The worker was gone before it took the job, so it is not the job that killed it."""


class ModelLoadError(EngineError):
    code = "model_load_failed"


class StoreError(CorralError):
    code = "store_error"


class ModelCorruptError(StoreError):
    code = "model_corrupt"


class RegistryError(CorralError):
    code = "registry_error"
