"""The HTTP edge: bytes to domain requests, events to bytes. It takes no decisions.

An API that people's tools speak is a folder here (`ollama`) and a module in `wire`; nothing below knows which one is speaking.
"""

from corral.api.app import build_api
from corral.api.protocol import BoundedHttpProtocol
from corral.api.services import Services

__all__ = ["BoundedHttpProtocol", "Services", "build_api"]
