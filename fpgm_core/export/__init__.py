"""Leaving: plans and compact networks in forms that other tools read, each reloaded before it is offered."""

from fpgm_core.export.artefacts import ARTEFACTS, Artefact
from fpgm_core.export.bundle import MANIFEST, Bundle, write_bundle, zip_bundle
from fpgm_core.export.exporting import TIMING, ExportConfig, export, export_work, most_measured
from fpgm_core.export.plans import plan_csv, torch_ao_config
from fpgm_core.export.source import python_source
from fpgm_core.export.torch_pruning import torch_pruning_ratios

__all__ = [
    "ARTEFACTS",
    "MANIFEST",
    "TIMING",
    "Artefact",
    "Bundle",
    "ExportConfig",
    "export",
    "export_work",
    "most_measured",
    "plan_csv",
    "python_source",
    "torch_ao_config",
    "torch_pruning_ratios",
    "write_bundle",
    "zip_bundle",
]
