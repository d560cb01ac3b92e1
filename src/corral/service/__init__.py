"""Use cases, without a dialect: what a client can ask for, and how it is done."""

from corral.service.blobs import BlobService
from corral.service.create import CreateService
from corral.service.inference import Inference
from corral.service.models import ModelService
from corral.service.pull import PullService

__all__ = ["BlobService", "CreateService", "Inference", "ModelService", "PullService"]
