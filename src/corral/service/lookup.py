"""From the name that a client gives to the model that is to answer."""

from typing import Final

from corral.core.aio import ThreadLimiter
from corral.core.errors import BadRequestError, ForbiddenError, ModelNotFoundError, NotSupportedError
from corral.store import Model, ModelName, Store

_NO_CLOUD: Final = "ollama cloud is disabled: remote model is unavailable"


class ModelLookup:
    """Reads models in the threads it is given, and none that it has read before."""

    def __init__(self, store: Store, threads: ThreadLimiter) -> None:
        self._store = store
        self._threads = threads

    async def named(self, name: str) -> Model:
        """The same for a request that must name one: BadRequestError where it does not."""
        if not name:
            raise BadRequestError("model is required")
        return await self.find(name)

    async def find(self, name: str) -> Model:
        """Raises BadRequestError for a name that is none, ModelNotFoundError with the name as the client spelled it,
        ForbiddenError for a model that is elsewhere, and ModelCorruptError.
        """
        if not name:
            raise ModelNotFoundError(name)
        parsed = ModelName.parse(name)
        try:
            if known := self._store.cached(parsed):
                return known
            return await self._threads.run(self._store.get, parsed)
        except ModelNotFoundError:
            if parsed.is_cloud:
                raise ForbiddenError(_NO_CLOUD) from None
            raise ModelNotFoundError(name) from None
        except NotSupportedError as exc:  # it is a reference to a model elsewhere
            raise ForbiddenError(_NO_CLOUD) from exc
