"""What the figures say, in English. Whoever draws them in another language hands theirs in, by the same names."""

from __future__ import annotations

from collections.abc import Mapping

from fpgm_core.evaluation import QUESTIONS, VERDICTS

LABELS: Mapping[str, str] = {
    "dense": "dense",
    "tried": "tried",
    "macs_of_one": "MACs of one image, millions",
    "accuracy_on_choose": "accuracy on choose, %",
    "training_loss": "training loss",
    "accuracy": "accuracy",
    "newly_pruned": "newly pruned, share of the pruned filters",
    "while_learning": "training, while learning",
    "watched": "choose, first images",
    "epoch": "epoch",
    "points_lost": "points<br>lost",
    "unit_loses": "{unit} at {rate:.0%}: {change} points",
    "plan_bars": "the plan's bars",
    "share_pruned": "share of the unit's filters pruned, %",
    "macs_cut": "the network's MACs cut, %",
    "change": "change of accuracy, points",
    "norm": "L2 norm",
    "named": "named",
    "truly": "truly",
    "random_band": "random draws",
    "premise": "{pair} ({sign} 0 as the premise has it)",
    **{f"pair_{name}": question.pair for name, question in QUESTIONS.items()},
    **{f"verdict_{verdict}": verdict for verdict in VERDICTS},
}
