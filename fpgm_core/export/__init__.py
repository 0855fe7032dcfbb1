"""Leaving: plans and compact networks in forms that other tools read, each reloaded before it is offered."""

from fpgm_core.export.bundle import ARTEFACTS, Bundle, export, export_steps, write_bundle, zip_bundle
from fpgm_core.export.plans import plan_csv, torch_ao_config, torch_pruning_ratios
from fpgm_core.export.source import python_source

__all__ = [
    "ARTEFACTS",
    "Bundle",
    "export",
    "export_steps",
    "plan_csv",
    "python_source",
    "torch_ao_config",
    "torch_pruning_ratios",
    "write_bundle",
    "zip_bundle",
]
