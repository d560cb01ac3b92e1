"""A workshop whose work is played: what it gives are small real GGUFs, written at once, and it tells what it was asked for."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from corral.core.errors import NotSupportedError
from corral.engine import Quantization
from corral.engine.workshop import Report
from tests.support.gguf_files import write_scripted

CHANGED = "Made."


@dataclass
class PlayedWorkshop:
    """`before`: not set, the work waits. `error`: what comes of it."""

    can_convert: bool = True
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=dict)  # the folder that was converted: settings by file name, None for weights
    before: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.before.set()

    async def quantize(self, source: Path, target: Path, to: Quantization, *, on_progress: Report) -> None:
        self.asked.append(f"quantize to {to.name}")
        on_progress(await asyncio.to_thread(_size_bytes, source) // 2)
        await self._work(target, {"general.file_type": to.file_type})

    def check_conversion(self) -> None:
        if not self.can_convert:
            raise NotSupportedError("run `pip install it`")

    async def convert(self, folder: Path, target: Path, *, to: Quantization, on_progress: Report) -> None:
        self.asked.append(f"convert {folder.name} to {to.name}")
        self.seen = await asyncio.to_thread(_seen, folder)
        on_progress(1)
        await self._work(target, {"general.file_type": to.file_type})

    async def convert_adapter(self, folder: Path, base: Path, target: Path) -> None:
        self.asked.append(f"convert adapter for {base.name[:10]}")
        self.seen = await asyncio.to_thread(_seen, folder)
        await self._work(target, {"general.type": "adapter"})

    async def _work(self, target: Path, metadata: Mapping[str, Any]) -> None:
        self.waiting.set()
        await asyncio.to_thread(write_scripted, target, CHANGED, metadata={**metadata, **self.metadata})
        await self.before.wait()
        if self.error:
            raise self.error


def _size_bytes(path: Path) -> int:
    return path.stat().st_size


def _seen(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            found[name] = json.loads(path.read_bytes()) if path.suffix == ".json" and not path.is_symlink() else None
    return found
