"""Training a network while it is pruned, or after: an epoch at a time, from a seed, resumable."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fpgm_core.data import Batch, ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import live_sources, overlay
from fpgm_core.inference import on_device, usual_batch
from fpgm_core.models import fingerprint
from fpgm_core.pruning import PrunedNetwork, RecoveryStep, compact_module, keep_tensors
from fpgm_core.runtime.device import choose_device, choose_precision, to_device
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.progress import Progress, Work
from fpgm_core.training.augmentation import augment, draw_crops
from fpgm_core.training.checkpoint import Checkpoint
from fpgm_core.training.loss import batch_loss
from fpgm_core.training.recipe import Recipe
from fpgm_core.training.run import Epoch, Run
from fpgm_core.training.schedules import Masks, get_schedule

_METHOD = "fine_tuned"  # of the recovery ladder
_BATCHES_A_STEP = 10  # between two signs of progress
_WATCHED_BATCH = 250


class Trainer:
    """Trains one pruned network under a schedule and a recipe.

    >>> trainer = Trainer(network.prune(0.5, coupling="inner"), Recipe(epochs=20), images=training_images)
    >>> trained = run(trainer.train_work())

    It begins with the pruned network's own tensors, norm statistics included, or with `scratch` with random weights
    drawn from the recipe's seed. Where tensors were replaced, the filters kept at first are those that they were made
    for; else the schedule chooses them. `watched` images are classified after every epoch. `folder`, where given,
    gets a checkpoint after every epoch, and a run of the same kind found there resumes, to the same curve.

    Under torchrun every process takes its part of each batch, gradients are averaged (DistributedDataParallel; norms
    see their own process's part), and only the first process writes.

    Raises FpgmError for a network without trained weights where they are what training begins with or learns from, for
    an unknown schedule, device or precision, and where `folder` holds another run or a damaged checkpoint.
    """

    def __init__(
        self,
        pruned: PrunedNetwork,
        recipe: Recipe = Recipe(),
        *,
        images: ImageSet,
        schedule: str = "finetune",
        watched: ImageSet | None = None,
        scratch: bool = False,
        device: str = "auto",
        precision: str = "auto",
        folder: Path | None = None,
    ) -> None:
        _check_weights(pruned, recipe, scratch)
        self.pruned, self.recipe, self.schedule, self.scratch = pruned, recipe, get_schedule(schedule), scratch
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self._images = on_device(images, self.device)
        self._watched = None if watched is None else on_device(watched, self.device)
        self._folder, self._world = folder, world()
        dense = self._start()
        self.masks: Masks = self._first_masks(dense)
        self.module = self._begin(dense)
        self._forward = DistributedDataParallel(self.module) if self._world.count > 1 else self.module
        self._optimizer = self._sgd()
        self._teacher = self._teach() if recipe.distillation else None
        self.run = Run(recipe)
        self._resume()

    @property
    def trained_on(self) -> str:
        """Which images, and how many."""
        return f"{self._images.name} {len(self._images)}"

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes results."""
        return self._world.is_main

    def _start(self) -> nn.Module:
        """What training begins with, in dense shapes."""
        if not self.scratch:
            return self.pruned.dense_shaped()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            return self.pruned.network.build().eval()

    def _first_masks(self, dense: nn.Module) -> Masks:
        if self.pruned.tensors and not self.scratch:
            return dict(self.pruned.keep_masks)
        return self.schedule.choose(self.pruned.network, self.pruned.plan, module=dense, so_far=None, done=0.0)

    def _begin(self, dense: nn.Module) -> nn.Module:
        """The network that is trained: compact, or in dense shapes with pruned filters at zero."""
        if self.schedule.compact:
            module: nn.Module = compact_module(dense, self.pruned.network.flow, self.masks)
        else:
            self._check_statistics()
            module = copy.deepcopy(dense)
            self._zero(module)
        return to_device(module, self.device).requires_grad_(True)

    def _check_statistics(self) -> None:
        """Zeros in a norm that runs over several channels would make statistics that the compact network has not."""
        flow = self.pruned.network.flow
        live = live_sources(flow, self.masks)
        for norm in flow.joint_norms:
            if not live[norm.reads].any(0).all():
                raise FpgmError(
                    f"{norm.name} normalises over channels that the plan prunes, so the network cannot be trained with "
                    "zeros in it; take the schedule finetune, which trains the compact network"
                )

    def _sgd(self) -> torch.optim.SGD:
        recipe, parameters = self.recipe, list(self.module.parameters())
        undecayed = [p for p in parameters if p.ndim <= 1 and not recipe.decay_norms]
        decayed = [p for p in parameters if p.ndim > 1 or recipe.decay_norms]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": undecayed, "weight_decay": 0.0}]
        return torch.optim.SGD(
            groups,
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov and recipe.momentum > 0,  # without momentum both are plain descent
            foreach=True,
        )

    def _teach(self) -> nn.Module:
        return to_device(overlay(self.pruned.network.module, {}), self.device).eval().requires_grad_(False)

    def train_work(self, *, stop: threading.Event | None = None) -> Work[PrunedNetwork]:
        """Train to the end of the recipe; returns what was reached, see `reached`.

        Progress comes at the start, every few batches and after every epoch; its `partial` is the Run so far. Setting
        `stop` ends training after the batches that are under way.

        Raises FpgmError where the loss is no longer finite, or a checkpoint cannot be written.
        """
        for run in self._runs():
            what = f"epoch {min(len(run.epochs) + 1, run.recipe.epochs)} of {run.recipe.epochs}"
            yield Progress(run.done, what=what, seconds_left=run.seconds_left, partial=run)
            if stop is not None and stop.is_set():
                break
        return self.reached()

    def _runs(self) -> Iterator[Run]:
        yield self.run
        while len(self.run.epochs) < self.recipe.epochs:
            yield from self._epoch()
            self._save()
            yield self.run

    def _epoch(self) -> Iterator[Run]:
        number, start = len(self.run.epochs), time.perf_counter()
        loss, accuracy, rate = yield from self._batches(number)
        changed = self._reselect((number + 1) / self.recipe.epochs)
        epoch = Epoch(
            number=number + 1,
            loss=loss,
            training_accuracy=accuracy,
            learning_rate=rate,
            correct=self._count_watched(),
            images=0 if self._watched is None else len(self._watched),
            changed=changed,
            seconds=time.perf_counter() - start,
        )
        self.run = replace(self.run, epochs=(*self.run.epochs, epoch), share=0.0)

    def _batches(self, number: int) -> Generator[Run, None, tuple[float, float, float]]:
        """The batches of an epoch; returns their mean loss, the share of right answers, and the last learning rate."""
        # A last batch that not every process could have a part of is left out.
        batches = [b for b in self.order(number).split(self.recipe.batch) if len(b) >= self._world.count]
        # Summed on the device: reading would make it wait.
        loss = torch.zeros((), dtype=torch.float64 if self.device.type == "cpu" else torch.float32, device=self.device)
        right = torch.zeros((), dtype=torch.long, device=self.device)
        generator = self._generator(number, 1)
        holds = self._zeroing(self.module) if self.schedule.held and not self.schedule.compact else []
        for index, chosen in enumerate(batches):
            rate = self.recipe.learning_rate_at(number + index / len(batches))
            batch_sum, batch_right = self._step(chosen, rate=rate, generator=generator)
            loss += batch_sum
            right += batch_right
            for tensor, keep in holds:
                tensor.mul_(keep)
            if index % _BATCHES_A_STEP == _BATCHES_A_STEP - 1 and index + 1 < len(batches):
                yield replace(self.run, share=(index + 1) / len(batches))
        self._world.share(self.module.buffers())
        loss, right = self._world.total(loss), self._world.total(right)
        if not bool(loss.isfinite()):
            raise FpgmError("the loss is no longer a finite number; lower the learning rate")
        num_images = sum(map(len, batches))
        return float(loss) / num_images, int(right) / num_images, rate

    def _generator(self, epoch: int, purpose: int) -> torch.Generator:
        """Randomness of one epoch by itself: a resumed run draws the same, whatever came before."""
        seed = int(np.random.SeedSequence([self.recipe.seed, epoch, purpose]).generate_state(1)[0])
        return torch.Generator().manual_seed(seed)

    def order(self, epoch: int) -> Tensor:
        """The order in which an epoch, 0 and up, reads the training images: int64 (N,)."""
        return torch.randperm(len(self._images), generator=self._generator(epoch, 0)).to(self._images.pixels.device)

    def _zeroing(self, module: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Tensors of the network, and what to multiply them with so that pruned filters are zero.

        Held filters are absent altogether, norms included. Those that may regrow keep their norms, or no
        gradient would ever reach them.
        """
        if self.schedule.held:
            keeps = keep_tensors(module, self.pruned.network.flow, self.masks)
        else:
            keeps = {f"{layer}.weight": torch.tensor(mask) for layer, mask in self.masks.items()}
        named = dict(module.named_parameters()) | dict(module.named_buffers())
        pairs = [(named[name].data, keep.to(named[name].device)) for name, keep in keeps.items()]
        return [(tensor, keep.reshape(*keep.shape, *(1,) * (tensor.ndim - keep.ndim))) for tensor, keep in pairs]

    def _zero(self, module: nn.Module) -> None:
        for tensor, keep in self._zeroing(module):
            tensor.mul_(keep)

    def _step(self, chosen: Tensor, *, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One batch: the sum of this process's losses, and how many of its images were right."""
        images, labels = self._batch(chosen, generator)
        self.module.train()
        low, teacher_logits = self.dtype != torch.float32, None
        with FORWARD_LOCK, torch.autocast(self.device.type, self.dtype, enabled=low):
            logits = self._forward(images)
            if self._teacher is not None:
                with torch.no_grad():
                    teacher_logits = self._teacher(images)
        loss = batch_loss(logits.float(), labels, recipe=self.recipe, teacher_logits=teacher_logits)
        # Gradients are averaged over processes, whose parts of a batch may differ by an image.
        (loss * (len(labels) * self._world.count / len(chosen))).backward()
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.detach() * len(labels), (logits.argmax(1) == labels).sum()

    def _batch(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """This process's part of a batch: images (B, C, H, W), augmented where the recipe says so, and labels (B,)."""
        mine = self._world.mine(chosen)
        part = replace(self._images, pixels=self._images.pixels[mine], labels=self._images.labels[mine])
        images = part.normalised(0, len(mine), device=self.device)
        if self.recipe.augmented:  # drawn for the whole batch: the same for an image, whoever has it
            images = augment(images, [self._world.mine(drawn) for drawn in draw_crops(len(chosen), generator)])
        return images, part.labels.to(self.device)

    def _reselect(self, done: float) -> float:
        """Let the schedule choose again and zero what it chose; the share of pruned filters that are new."""
        if self.schedule.compact:
            return 0.0
        before, pruned = self.masks, self.pruned
        self.masks = self.schedule.choose(pruned.network, pruned.plan, module=self.module, so_far=before, done=done)
        self._zero(self.module)
        num_pruned = sum(int((~mask).sum()) for mask in self.masks.values())
        num_new = sum(int((~mask & before[layer]).sum()) for layer, mask in self.masks.items())
        return num_new / num_pruned if num_pruned else 0.0

    def _count_watched(self) -> int:
        """How many of the watched images are right, in the precision of training."""
        if self._watched is None:
            return 0
        self.module.eval()
        low = self.dtype != torch.float32
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        size = min(_WATCHED_BATCH, usual_batch((self.device.type, self.dtype), self._watched))
        for index, begin in enumerate(range(0, len(self._watched), size)):
            batch = Batch(self._watched, begin, min(begin + size, len(self._watched)), self.device)
            if index % self._world.count == self._world.rank:
                with FORWARD_LOCK, torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=low):
                    correct += (self.module(batch.normalised()).argmax(1) == batch.labels).sum()
        return int(self._world.total(correct))

    def reached(self) -> PrunedNetwork:
        """What the run has reached so far: its tensors in dense shapes, and a plan that prunes what it prunes now.

        The plan is the run's own where the schedule kept to it. Later training does not change what is returned.
        """
        network = self.pruned.network
        reached = PrunedNetwork(
            network=network,
            plan=network.plan_that_prunes(self.masks, like=self.pruned.plan),
            keep_masks=dict(self.masks),
            tensors={} if self.scratch else self.pruned.tensors,
            recovery=() if self.scratch else self.pruned.recovery,
        )
        if self.schedule.compact:
            return reached.with_compact_state(self.module, self._recovery_step())
        state = {name: t.clone(memory_format=torch.contiguous_format) for name, t in _floats(self.module).items()}
        return reached.with_tensors(state, self._recovery_step())

    def _recovery_step(self) -> RecoveryStep:
        details = {
            "schedule": self.schedule.name,
            "recipe": asdict(self.recipe),
            "epochs": len(self.run.epochs),
            "scratch": self.scratch,
            "precision": str(self.dtype).removeprefix("torch."),
        }
        return RecoveryStep(_METHOD, num_images=len(self._images), images=self._images.name, details=details)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint must have been made with for this run to resume from it."""
        begins_with = "scratch" if self.scratch else fingerprint(self.pruned.tensors)
        return {
            "recipe": asdict(self.recipe),
            "schedule": self.schedule.name,
            "plan": self.pruned.plan.to_dict(),
            "scratch": self.scratch,
            "images": self.trained_on,
            "precision": str(self.dtype),
            "start": begins_with,
        }

    def _save(self) -> None:
        if self._folder is None or not self._world.is_main:
            return
        state = self._optimizer.state
        checkpoint = Checkpoint(
            identity=self._identity(),
            epochs=self.run.epochs,
            model=self.module.state_dict(),
            momenta={
                name: state[parameter]["momentum_buffer"]
                for name, parameter in self.module.named_parameters()
                if state[parameter].get("momentum_buffer") is not None
            },
            masks=self.masks,
        )
        checkpoint.write(self._folder)

    def _resume(self) -> None:
        checkpoint = Checkpoint.read(self._folder, self._identity()) if self._folder is not None else None
        if checkpoint is None:
            return
        self.module.load_state_dict(checkpoint.model)
        for name, parameter in self.module.named_parameters():
            if name in checkpoint.momenta and self.recipe.momentum > 0:
                momentum = torch.empty_like(parameter, requires_grad=False).copy_(checkpoint.momenta[name])
                self._optimizer.state[parameter]["momentum_buffer"] = momentum
        self.masks = dict(checkpoint.masks)
        self.run = Run(self.recipe, checkpoint.epochs)


def _check_weights(pruned: PrunedNetwork, recipe: Recipe, scratch: bool) -> None:
    network = pruned.network
    if not scratch and not network.trained:
        raise FpgmError(f"nothing to fine-tune: {network.notice}; train from scratch instead")
    if recipe.distillation and not network.trained:
        raise FpgmError(f"nobody to learn from: {network.notice}; leave distillation out")


def _floats(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and buffers by name, without counters."""
    return {name: tensor for name, tensor in module.state_dict().items() if tensor.is_floating_point()}
