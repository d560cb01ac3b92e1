"""Use cases, without a dialect: what a client can ask for, and how it is done."""

from corral.service.blobs import BlobService
from corral.service.create import CreateService
from corral.service.embed import EmbedService
from corral.service.inference import Inference
from corral.service.models import ModelService
from corral.service.pull import PullService
from corral.service.push import PushService
from corral.service.rerank import RerankService
from corral.service.tokens import TokenService

__all__ = [
    "BlobService",
    "CreateService",
    "EmbedService",
    "Inference",
    "ModelService",
    "PullService",
    "PushService",
    "RerankService",
    "TokenService",
]
