"""What each process of test_distributed does, and one alone does to compare: `python processes.py FOLDER`.

A network without norms: their statistics belong to a process's own part of a batch, so only without them
are two processes' gradients those of one.
"""

import json
import os
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import torch
from torch import nn

from fpgm_core import Network
from fpgm_core.__main__ import main
from fpgm_core.data import load_images
from fpgm_core.runtime.distributed import joined_world
from fpgm_core.runtime.progress import run
from fpgm_core.training import Recipe, Trainer

IMAGES = 95  # two processes' parts are never quite equal


class WithoutNorms(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, 2), nn.Linear(8, 10)

    def forward(self, x):
        return self.fc(torch.relu(self.b(torch.relu(self.a(x)))).mean((2, 3)))


def network():
    torch.manual_seed(0)
    module = WithoutNorms().eval().requires_grad_(False)
    return Network.from_module(module, (3, 32, 32), name="resnet20", dataset="cifar10")


def training(folder):
    recipe = Recipe(epochs=3, learning_rate=0.05, batch=32, decay="step")
    images, watched = load_images("cifar10", "train").first(IMAGES), load_images("cifar10", "choose").first(300)
    return Trainer(
        network().prune(0.4), recipe, schedule="rescored", images=images, watched=watched, device="cpu",
        precision="float32", folder=folder,
    )  # fmt: skip


def work(folder):
    rank = int(os.environ.get("RANK", "0"))
    torch.set_num_threads(1)
    with joined_world() as processes:
        trainer = training(folder)
        reached = run(trainer.train_work())
        found = {
            "count": processes.count,
            "epochs": [[epoch.loss, epoch.training_accuracy, epoch.correct] for epoch in trainer.run.epochs],
            "masks": {layer: mask.tolist() for layer, mask in reached.keep_masks.items()},
            "weights": {name: t.tolist() for name, t in reached.tensors.items()},
            "writes": trainer.writes,
        }
        with redirect_stdout(StringIO()) as said:
            main(["evaluate", "resnet20", "--rate", "0.2", "--no-recalibrate", "--images", "301", "--json"])
        found["said"] = said.getvalue()
    (folder / f"found-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    work(Path(sys.argv[1]))
