"""Networks people use, tried one by one: what of them is pruned, whether rightly, beside Torch-Pruning."""

from fpgm_core.architectures.subjects import Subject, subject, subjects
from fpgm_core.architectures.table import SECONDS, as_markdown, read_table, summary, table_work
from fpgm_core.architectures.trial import Trial, try_out

__all__ = [
    "SECONDS",
    "Subject",
    "Trial",
    "as_markdown",
    "read_table",
    "subject",
    "subjects",
    "summary",
    "table_work",
    "try_out",
]
