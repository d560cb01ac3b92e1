"""Models on disk, in Ollama's layout: names, manifests, blobs, and what a GGUF says of itself."""

from corral.store.blobs import BlobWriter
from corral.store.file_lock import try_lock, wait_for_lock
from corral.store.files import FileStamp, store_errors, write_atomically
from corral.store.gguf import GgufError, GgufHeader, LongArray, Tensor, read_header
from corral.store.gguf_info import RANK_POOLING, GgufInfo, human_count, read_info
from corral.store.gguf_split import Shard, merge_shards, order_shards, shard_count
from corral.store.gguf_types import FILE_TYPES, UNQUANTIZED
from corral.store.layout import CREATING, INCOMING, digest_hex, digest_of
from corral.store.loading import MAX_TEXT_BYTES, model_header
from corral.store.local_file import LocalFileError
from corral.store.manifests import StoredManifest
from corral.store.model import (
    ADAPTER_LAYER,
    CONFIG_LAYER,
    DRAFT_LAYER,
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
from corral.store.modelfile import (
    DEPRECATED_PARAMETERS,
    PARAMETER_NAME,
    Instruction,
    ModelfileError,
    parameter,
    parse_modelfile,
)
from corral.store.names import DEFAULT_HOST, DEFAULT_NAMESPACE, DEFAULT_TAG, ModelName
from corral.store.safetensors import SafetensorsError, SafetensorsHeader, read_safetensors
from corral.store.store import Damaged, Listing, Store
from corral.store.tunings import tuning_files

__all__ = [
    "ADAPTER_LAYER",
    "CONFIG_LAYER",
    "CREATING",
    "DEFAULT_HOST",
    "DEFAULT_NAMESPACE",
    "DEFAULT_TAG",
    "DEPRECATED_PARAMETERS",
    "DRAFT_LAYER",
    "FILE_TYPES",
    "INCOMING",
    "LICENSE_LAYER",
    "MAX_TEXT_BYTES",
    "MESSAGES_LAYER",
    "MODEL_LAYER",
    "PARAMETER_NAME",
    "PARAMS_LAYER",
    "PROJECTOR_LAYER",
    "RANK_POOLING",
    "SYSTEM_LAYER",
    "TEMPLATE_LAYER",
    "UNQUANTIZED",
    "BlobWriter",
    "Damaged",
    "FileStamp",
    "GgufError",
    "GgufHeader",
    "GgufInfo",
    "Instruction",
    "Listing",
    "LocalFileError",
    "LongArray",
    "Model",
    "ModelConfig",
    "ModelName",
    "ModelfileError",
    "SafetensorsError",
    "SafetensorsHeader",
    "Shard",
    "Store",
    "StoredManifest",
    "Tensor",
    "digest_hex",
    "digest_of",
    "encode_messages",
    "go_json",
    "human_count",
    "merge_shards",
    "model_header",
    "order_shards",
    "parameter",
    "parse_modelfile",
    "read_header",
    "read_info",
    "read_safetensors",
    "shard_count",
    "store_errors",
    "try_lock",
    "tuning_files",
    "wait_for_lock",
    "write_atomically",
]
