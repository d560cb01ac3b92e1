"""Where models come from: Ollama's registry protocol, and a catalogue of packages on the Python package index."""

from corral.registry.catalogue import CATALOGUE, CatalogueModel, Package, find
from corral.registry.client import USER_AGENT, RegistryClient
from corral.registry.disk import Disk
from corral.registry.failures import RegistryTransientError, RegistryUnreachableError
from corral.registry.limits import Limits
from corral.registry.manifest import blobs_of, read_manifest
from corral.registry.packages import PipProcess, RunPip, download, extract, license_text
from corral.registry.transfer import Transfer

__all__ = [
    "CATALOGUE",
    "USER_AGENT",
    "CatalogueModel",
    "Disk",
    "Limits",
    "Package",
    "PipProcess",
    "RegistryClient",
    "RegistryTransientError",
    "RegistryUnreachableError",
    "RunPip",
    "Transfer",
    "blobs_of",
    "download",
    "extract",
    "find",
    "license_text",
    "read_manifest",
]
