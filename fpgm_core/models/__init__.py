"""Networks: the registry, checkpoints, fingerprints."""

from fpgm_core.models.checkpoints import fingerprint, load_state, read_checkpoint
from fpgm_core.models.info import ModelInfo, bundled_record
from fpgm_core.models.registry import (
    LoadedModel,
    cifar_models,
    get_model_info,
    list_models,
    load_model,
    model_names,
    published_weights,
)
from fpgm_core.models.sizes import weight_bytes

__all__ = [
    "LoadedModel",
    "ModelInfo",
    "bundled_record",
    "cifar_models",
    "fingerprint",
    "get_model_info",
    "list_models",
    "load_model",
    "load_state",
    "model_names",
    "published_weights",
    "read_checkpoint",
    "weight_bytes",
]
