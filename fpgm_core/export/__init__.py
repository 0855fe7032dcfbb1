"""Leaving: plans and compact networks in forms that other tools read, each reloaded before it is offered."""

from fpgm_core.export.artefacts import ARTEFACTS, Artefact
from fpgm_core.export.bundle import MANIFEST, Bundle, write_bundle, zip_bundle
from fpgm_core.export.eight_bits import CALIBRATION, as_int8
from fpgm_core.export.exporting import TIMING, ExportConfig, export, export_work, most_measured
from fpgm_core.export.plans import plan_csv, torch_ao_config
from fpgm_core.export.quantising import FORMS, PAIRS, Quantising, change_told, judged_work, quantising_work
from fpgm_core.export.source import python_source
from fpgm_core.export.torch_pruning import torch_pruning_ratios

__all__ = [
    "ARTEFACTS",
    "CALIBRATION",
    "FORMS",
    "MANIFEST",
    "PAIRS",
    "TIMING",
    "Artefact",
    "Bundle",
    "ExportConfig",
    "Quantising",
    "as_int8",
    "change_told",
    "export",
    "export_work",
    "judged_work",
    "most_measured",
    "plan_csv",
    "python_source",
    "quantising_work",
    "torch_ao_config",
    "torch_pruning_ratios",
    "write_bundle",
    "zip_bundle",
]
