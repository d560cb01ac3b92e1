"""Where models come from: Ollama's registry protocol, and a catalogue of packages on the Python package index."""

from corral.registry.catalogue import CATALOGUE, CatalogueModel, Conversion, Package, find
from corral.registry.client import USER_AGENT, Reach, RegistryClient
from corral.registry.disk import Disk
from corral.registry.failures import RegistryTransientError, RegistryUnreachableError
from corral.registry.limits import DEFAULT_CONNECTIONS, Limits
from corral.registry.manifest import blobs_of, read_manifest
from corral.registry.packages import PipProcess, RunPip, download, extract, license_text
from corral.registry.partial import Partial
from corral.registry.transfer import Transfer
from corral.registry.unpacking import unpack
from corral.registry.uploads import Upload

__all__ = [
    "CATALOGUE",
    "DEFAULT_CONNECTIONS",
    "USER_AGENT",
    "CatalogueModel",
    "Conversion",
    "Disk",
    "Limits",
    "Package",
    "Partial",
    "PipProcess",
    "Reach",
    "RegistryClient",
    "RegistryTransientError",
    "RegistryUnreachableError",
    "RunPip",
    "Transfer",
    "Upload",
    "blobs_of",
    "download",
    "extract",
    "find",
    "license_text",
    "read_manifest",
    "unpack",
]
