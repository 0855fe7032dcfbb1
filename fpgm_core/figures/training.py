"""The curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from fpgm_core.figures.colours import KEPT, PRUNED
from fpgm_core.figures.labels import LABELS
from fpgm_core.training import Run


def training_figure(run: Run, labels: Mapping[str, str] = LABELS) -> go.Figure:
    """Loss, accuracy and how the selection changes, by epoch."""
    numbers = [epoch.number for epoch in run.epochs]
    titles = [labels[name] for name in ("training_loss", "accuracy", "newly_pruned")]
    figure = make_subplots(1, 3, subplot_titles=titles)
    lines = (
        (1, labels["training_loss"], [epoch.loss for epoch in run.epochs], KEPT),
        (2, labels["while_learning"], [epoch.training_accuracy for epoch in run.epochs], PRUNED),
        (2, labels["watched"], [epoch.watched_accuracy for epoch in run.epochs], KEPT),
        (3, labels["newly_pruned"], [epoch.changed for epoch in run.epochs], KEPT),
    )
    for column, name, values, colour in lines:
        figure.add_scatter(
            x=numbers, y=values, name=name, mode="lines+markers", row=1, col=column,
            line={"color": colour}, showlegend=column == 2,
        )  # fmt: skip
    figure.update_xaxes(title=labels["epoch"], range=[0.5, run.recipe.epochs + 0.5])
    figure.update_yaxes(tickformat=".0%", col=2)
    figure.update_yaxes(tickformat=".0%", rangemode="tozero", col=3)
    figure.update_layout(height=300, margin={"l": 40, "r": 10, "t": 40, "b": 40}, legend={"orientation": "h", "y": 1.3})
    return figure
