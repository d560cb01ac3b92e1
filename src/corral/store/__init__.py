"""Models on disk, in Ollama's layout: names, manifests, blobs, and what a GGUF says of itself."""

from corral.store.blobs import BlobWriter
from corral.store.files import store_errors
from corral.store.gguf import GgufError, GgufHeader, LongArray, Tensor, read_header
from corral.store.gguf_info import GgufInfo, human_count, read_info
from corral.store.gguf_types import FILE_TYPES, UNQUANTIZED
from corral.store.layout import digest_hex, digest_of
from corral.store.manifests import StoredManifest
from corral.store.model import (
    ADAPTER_LAYER,
    CONFIG_LAYER,
    LICENSE_LAYER,
    MESSAGES_LAYER,
    MODEL_LAYER,
    PARAMS_LAYER,
    PROJECTOR_LAYER,
    SYSTEM_LAYER,
    TEMPLATE_LAYER,
    Model,
    ModelConfig,
    encode_messages,
    go_json,
)
from corral.store.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, ModelName
from corral.store.store import Damaged, Listing, Store

__all__ = [
    "ADAPTER_LAYER",
    "CONFIG_LAYER",
    "DEFAULT_HOST",
    "DEFAULT_NAMESPACE",
    "DEFAULT_TAG",
    "FILE_TYPES",
    "LICENSE_LAYER",
    "MESSAGES_LAYER",
    "MODEL_LAYER",
    "PARAMS_LAYER",
    "PROJECTOR_LAYER",
    "SYSTEM_LAYER",
    "TEMPLATE_LAYER",
    "UNQUANTIZED",
    "BlobWriter",
    "Damaged",
    "GgufError",
    "GgufHeader",
    "GgufInfo",
    "Listing",
    "LongArray",
    "Model",
    "ModelConfig",
    "ModelName",
    "Store",
    "StoredManifest",
    "Tensor",
    "digest_hex",
    "digest_of",
    "encode_messages",
    "go_json",
    "human_count",
    "read_header",
    "read_info",
    "store_errors",
]
