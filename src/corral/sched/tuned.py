"""The choices that were measured for models, as a load asks for them: of this machine alone, and as they are on disk now.

A request asks each time. While the file has not changed that costs a look at its metadata; else it is read again, in a thread.
"""

from collections.abc import Callable, Sequence
from typing import Final

from corral.core.aio import ThreadLimiter
from corral.core.tuning import Machine, Placement, Tuned, Tuning
from corral.engine import Launcher
from corral.store import FileStamp, Model, Store, tuning_files

_NONE: Final = Tuned()


class TunedModels:
    """Made once per server. `identify` says what machine this is, of the launcher's devices."""

    def __init__(self, store: Store, launcher: Launcher, identify: Callable[[Sequence[str]], Machine]) -> None:
        self._store = store
        self._launcher = launcher
        self._identify = identify
        self._threads = ThreadLimiter("corral-tuned", 1)
        self._stamp: FileStamp | None = None
        self._entries: Sequence[Tuning] = ()
        self._machine: Machine | None = None

    async def machine(self) -> Machine:
        """This one. Raises ModelLoadError where no worker can be started that knows its devices."""
        if self._machine is None:
            devices = await self._launcher.devices()
            self._machine = await self._threads.run(self._identify, devices)
        return self._machine

    async def find(self, model: Model) -> Tuning | None:
        """What was chosen for the model on this machine."""
        await self._refresh()
        if self._machine is None and self._of(model):
            await self.machine()
        return next((entry for entry in self._of(model) if entry.machine == self._machine), None)

    def known(self, model: Model) -> Tuned | None:
        """The settings chosen for the model on this machine, as far as that was asked for; reads nothing."""
        return next((entry.settings for entry in self._of(model) if entry.machine == self._machine), None)

    async def settings(self, model: Model, placement: Placement) -> Tuned:
        """What holds for a load that is placed so: nothing where it is set otherwise than it was when that was measured."""
        found = await self.find(model)
        return found.settings if found and found.placement == placement else _NONE

    async def put(self, tuning: Tuning) -> None:
        """Raises StoreError."""
        await self._threads.run(self._store.put_tuning, tuning)

    async def remove(self, model: Model) -> bool:
        """Whether there was a choice for the model on this machine. Raises StoreError, ModelLoadError."""
        machine = await self.machine()
        return await self._threads.run(self._store.remove_tuning, tuning_files(model), machine)

    def close(self) -> None:
        self._threads.close()

    def _of(self, model: Model) -> list[Tuning]:
        files = tuning_files(model) if self._entries else ()
        return [entry for entry in self._entries if entry.files == files]

    async def _refresh(self) -> None:
        stamp = self._store.tunings_stamp()
        if stamp != self._stamp:
            entries = await self._threads.run(self._store.tunings) if stamp else ()
            self._entries, self._stamp = entries, stamp
