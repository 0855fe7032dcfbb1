"""Training a network while it is pruned, or after: an epoch at a time, from a seed, resumable."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from fpgm_core.data import ImageSet, load_images
from fpgm_core.errors import FpgmError
from fpgm_core.graph import overlay
from fpgm_core.models import fingerprint
from fpgm_core.pruning import Network, Plan, compact_module, keep_tensors
from fpgm_core.recovery import IMAGES, Mended, recalibrate
from fpgm_core.runtime.device import choose_device, choose_precision, to_device
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.locks import FORWARD_LOCK
from fpgm_core.runtime.storage import write_atomic
from fpgm_core.training.recipe import Recipe
from fpgm_core.training.schedules import Masks, get_schedule

_WATCHED = 1000  # images of the choose half that each epoch is judged on
_SAID_EVERY = 10  # batches
_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class Epoch:
    """One epoch: mean training loss, training accuracy 0..1 as seen in passing, and what followed.

    `correct` of `images` of the choose half were right after it (the pruned network's answers, its norms
    as training left them). `changed` is the share of pruned filters that were not pruned an epoch before.
    """

    number: int
    loss: float
    training_accuracy: float
    learning_rate: float
    correct: int
    images: int
    changed: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """How far a run is: its epochs so far, and the share 0..1 of the present one that is done."""

    recipe: Recipe
    epochs: tuple[Epoch, ...] = ()
    share: float = 0.0

    @property
    def done(self) -> float:
        """The share of the whole run that is done, 0..1."""
        return min(1.0, (len(self.epochs) + self.share) / self.recipe.epochs)

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take if epochs go on as the last ones did; None before the first ends."""
        if not self.epochs:
            return None
        last = [epoch.seconds for epoch in self.epochs[-3:]]
        return sum(last) / len(last) * (self.recipe.epochs - len(self.epochs) - self.share)


class Trainer:
    """Trains one network under one plan, schedule and recipe; `compact()` hands out what was reached so far.

    It begins with the loaded network, with `mended` tensors in place of its own (the filters kept are then those that
    they were made for), or with `scratch` with random weights from the recipe's seed. `folder`, where given, gets a
    checkpoint after every epoch, and a run of the same kind found there is gone on with, to the same curve.

    Under torchrun every process takes its part of each batch, gradients are averaged (DistributedDataParallel; norms
    see their own process's part), and only the first process writes.
    """

    def __init__(
        self,
        network: Network,
        plan: Plan,
        recipe: Recipe = Recipe(),
        schedule: str = "finetune",
        images: ImageSet | None = None,
        scratch: bool = False,
        device: str = "auto",
        precision: str = "auto",
        folder: Path | None = None,
        mended: Mended | None = None,
    ) -> None:
        network.check(plan)
        info = network
        if not scratch and not network.trained:
            raise FpgmError(f"nothing to fine-tune: {network.notice}; train from scratch instead")
        if recipe.distillation and not network.trained:
            raise FpgmError(f"nobody to learn from: {network.notice}; leave distillation out")
        self.network, self.plan, self.recipe, self.schedule = network, plan, recipe, get_schedule(schedule)
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        self._images = (images or load_images(info.dataset, "train")).to(self.device)
        self._watched = load_images(info.dataset, "choose").first(_WATCHED).to(self.device)
        self._folder, self._mended = folder, mended
        self._identity = self._describe(scratch)
        self._dense = self._start(scratch)
        self.masks: Masks = dict(mended.keep_masks) if mended else self._chosen()
        self._world = world()
        self._module = self._begin(recalibrated=not scratch)
        self._forward = DistributedDataParallel(self._module) if self._world.count > 1 else self._module
        self._momentum: dict[str, Tensor] = {}
        self._teacher = self._teach() if recipe.distillation else None
        self.run = Run(recipe)
        self._resume()

    def _chosen(self) -> Masks:
        return self.schedule.choose(self.network, self.plan, self._dense, None, 0.0)

    def _describe(self, scratch: bool) -> dict[str, Any]:
        """What a checkpoint must have been made with for this run to go on from it."""
        return {
            "recipe": asdict(self.recipe),
            "schedule": self.schedule.name,
            "plan": self.plan.to_dict(),
            "scratch": scratch,
            "images": self.trained_on,
            "precision": str(self.dtype),
            **({"mended": fingerprint(self._mended.tensors)} if self._mended else {}),
        }

    @property
    def trained_on(self) -> str:
        """Which images, and how many."""
        return f"{self._images.name} {len(self._images)}"

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes results."""
        return self._world.is_main

    def _start(self, scratch: bool) -> nn.Module:
        if not scratch:
            return self._mended.whole(self.network) if self._mended else overlay(self.network.module, {})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.recipe.seed)
            return self.network.build().eval()

    def _begin(self, recalibrated: bool) -> nn.Module:
        """The network that is trained: compact, or in dense shapes with pruned filters at zero."""
        if self.schedule.compact:
            module: nn.Module = compact_module(self._dense, self.network.flow, self.masks)
        else:
            module = copy.deepcopy(self._dense)
            self._zero(module)
        if self.schedule.compact and recalibrated and self._mended is None:
            calibration = self._images.first(min(IMAGES, len(self._images)))
            module = module.to(self.device)
            for _ in recalibrate(module, calibration):
                pass
        for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = 0.1  # recalibration averages; training follows
        return to_device(module, self.device).requires_grad_(True)

    def _teach(self) -> nn.Module:
        return to_device(overlay(self.network.module, {}), self.device).eval().requires_grad_(False)

    def steps(self) -> Iterator[Run]:
        """Train to the end of the recipe; yields how far it is, every few batches and after every epoch."""
        while len(self.run.epochs) < self.recipe.epochs:
            yield from self._epoch()
            self._save()
            yield self.run

    def _epoch(self) -> Iterator[Run]:
        number, start = len(self.run.epochs), time.perf_counter()
        # A last batch that not every process could have a part of is left out.
        order = self._order(number)
        batches = [b for b in order.split(self.recipe.batch) if len(b) >= self._world.count]
        generator = self._generator(number, 1)
        loss = torch.zeros((), dtype=torch.float64 if self.device.type == "cpu" else torch.float32, device=self.device)
        right = torch.zeros((), dtype=torch.long, device=self.device)
        holds = self._zeroing(self._module) if self.schedule.held and not self.schedule.compact else []
        for index, chosen in enumerate(batches):
            rate = self.recipe.learning_rate_at(number + index / len(batches))
            batch_loss, batch_right = self._step(chosen, rate, generator, holds)
            loss += batch_loss
            right += batch_right
            if index % _SAID_EVERY == _SAID_EVERY - 1 and index + 1 < len(batches):
                yield replace(self.run, share=(index + 1) / len(batches))
        self._world.share(self._module.buffers())
        loss, right = self._world.total(loss), self._world.total(right)
        if not bool(loss.isfinite()):  # asked once an epoch: asking makes a device wait
            raise FpgmError("the loss is no longer a finite number; lower the learning rate")
        changed = self._reselect((number + 1) / self.recipe.epochs)
        correct = self._judge()
        n = sum(map(len, batches))
        entry = Epoch(
            number + 1, float(loss) / n, int(right) / n, rate, correct, len(self._watched), changed,
            time.perf_counter() - start,
        )  # fmt: skip
        self.run = replace(self.run, epochs=(*self.run.epochs, entry), share=0.0)

    def _generator(self, epoch: int, purpose: int) -> torch.Generator:
        """Randomness of one epoch by itself: a resumed run draws the same, whatever came before."""
        seed = int(np.random.SeedSequence([self.recipe.seed, epoch, purpose]).generate_state(1)[0])
        return torch.Generator().manual_seed(seed)

    def _order(self, epoch: int) -> Tensor:
        return torch.randperm(len(self._images), generator=self._generator(epoch, 0)).to(self.device)

    def _zeroing(self, module: nn.Module) -> list[tuple[Tensor, Tensor]]:
        """Tensors of the network, and what to multiply them with so that pruned filters are zero.

        Held filters are absent altogether, norms included. Those that may regrow keep their norms, or no
        gradient would ever reach them.
        """
        if self.schedule.held:
            keeps = keep_tensors(module, self.network.flow, self.masks)
        else:
            keeps = {f"{layer}.weight": torch.from_numpy(mask) for layer, mask in self.masks.items()}
        named = dict(module.named_parameters()) | dict(module.named_buffers())
        pairs = [(named[name].data, keep.to(named[name].device)) for name, keep in keeps.items()]
        return [(tensor, keep.reshape(*keep.shape, *(1,) * (tensor.ndim - keep.ndim))) for tensor, keep in pairs]

    def _zero(self, module: nn.Module) -> None:
        for tensor, keep in self._zeroing(module):
            tensor.mul_(keep)

    def _step(
        self, chosen: Tensor, rate: float, generator: torch.Generator, holds: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """One batch: the sum of this process's losses, and how many of its images were right."""
        images, labels = self._batch(chosen, generator)
        self._module.train()
        low = self.dtype != torch.float32
        with FORWARD_LOCK, torch.autocast(self.device.type, self.dtype, enabled=low):
            logits = self._forward(images)
            guide = None
            if self._teacher is not None:
                with torch.no_grad():
                    guide = self._teacher(images)
        loss = self._loss(logits.float(), labels, guide)
        # Gradients are averaged over processes, whose parts of a batch may differ by an image.
        (loss * (len(labels) * self._world.count / len(chosen))).backward()
        self._update(rate)
        with torch.no_grad():
            for tensor, keep in holds:
                tensor.mul_(keep)
        return loss.detach() * len(labels), (logits.argmax(1) == labels).sum()

    def _batch(self, chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        mine = self._world.mine(chosen)
        part = replace(self._images, pixels=self._images.pixels[mine], labels=self._images.labels[mine])
        images = part.normalised(0, len(mine))
        if self.recipe.augmented:  # drawn for the whole batch: the same for an image, whoever has it
            images = augment(images, [self._world.mine(drawn) for drawn in draw_crops(len(chosen), generator)])
        return images, part.labels

    def _loss(self, logits: Tensor, labels: Tensor, guide: Tensor | None) -> Tensor:
        loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        if guide is None:
            return loss
        share, heat = self.recipe.distillation, self.recipe.temperature
        soft = F.kl_div(
            (logits / heat).log_softmax(1),
            (guide.float() / heat).log_softmax(1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - share) * loss + share * heat * heat * soft

    @torch.no_grad()
    def _update(self, rate: float) -> None:
        """One step of SGD with momentum, as torch.optim.SGD does it; the momenta are ours to keep in checkpoints."""
        recipe = self.recipe
        names, parameters = zip(*self._module.named_parameters(), strict=True)
        grads = [p.grad for p in parameters]
        if not self._momentum:
            self._momentum = {name: torch.zeros_like(p) for name, p in zip(names, parameters, strict=True)}
        momenta = [self._momentum[name] for name in names]
        decayed = [i for i, p in enumerate(parameters) if recipe.decay_norms or p.ndim > 1]
        torch._foreach_add_([grads[i] for i in decayed], [parameters[i] for i in decayed], alpha=recipe.weight_decay)
        torch._foreach_mul_(momenta, recipe.momentum)
        torch._foreach_add_(momenta, grads)
        if recipe.nesterov:
            torch._foreach_add_(grads, momenta, alpha=recipe.momentum)
        torch._foreach_add_(parameters, grads if recipe.nesterov else momenta, alpha=-rate)
        for parameter in parameters:
            parameter.grad = None

    def _reselect(self, done: float) -> float:
        """Let the schedule choose again and zero what it chose; the share of pruned filters that are new."""
        if self.schedule.compact:
            return 0.0
        before = self.masks
        self.masks = self.schedule.choose(self.network, self.plan, self._module, before, done)
        self._zero(self._module)
        pruned = sum(int((~mask).sum()) for mask in self.masks.values())
        new = sum(int((~mask & before[layer]).sum()) for layer, mask in self.masks.items())
        return new / pruned if pruned else 0.0

    def _judge(self) -> int:
        self._module.eval()
        low = self.dtype != torch.float32
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        for index, (images, labels) in enumerate(self._watched.batches(250)):
            if index % self._world.count == self._world.rank:
                with FORWARD_LOCK, torch.inference_mode(), torch.autocast(self.device.type, self.dtype, enabled=low):
                    correct += (self._module(images).argmax(1) == labels).sum()
        return int(self._world.total(correct))

    def compact(self) -> GraphModule:
        """The compact network as trained so far: a copy on the CPU, in eval mode."""
        whole = self.whole()
        if whole is not None:
            return compact_module(whole, self.network.flow, self.masks)
        assert isinstance(self._module, GraphModule)
        return self._copy(self._module)

    def whole(self) -> nn.Module | None:
        """The network as trained so far in dense shapes, a copy likewise; None where the compact one is trained."""
        return None if self.schedule.compact else self._copy(self._module)

    def reached(self) -> Plan:
        """A plan that prunes what the run prunes now: the run's own, where the schedule kept to it."""
        return self.network.plan_that_prunes(self.masks, like=self.plan)

    @staticmethod
    def _copy(module: _Module) -> _Module:
        return copy.deepcopy(module).eval().to("cpu").requires_grad_(False)

    def _path(self) -> Path | None:
        return self._folder / "checkpoint.safetensors" if self._folder else None

    def _save(self) -> None:
        path = self._path()
        if path is None or not self._world.is_main:
            return
        tensors = {f"model/{name}": t for name, t in self._module.state_dict().items()}
        tensors |= {f"momentum/{name}": t for name, t in self._momentum.items()}
        tensors |= {f"mask/{layer}": torch.from_numpy(mask) for layer, mask in self.masks.items()}
        about = {"identity": self._identity, "epochs": [asdict(epoch) for epoch in self.run.epochs]}
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomic(path, save_safetensors(plain, {"run": json.dumps(about)}))

    def _resume(self) -> None:
        path = self._path()
        if path is None or not path.exists():
            return
        about, tensors = _read(path)
        if about["identity"] != self._identity:
            raise FpgmError(f"{path} is of another run (plan, recipe, schedule or data differ); name another folder")
        self._module.load_state_dict(tensors["model"])
        self._momentum = {name: t.to(self.device) for name, t in tensors["momentum"].items()}
        self.masks = {layer: mask.numpy() for layer, mask in tensors["mask"].items()}
        self.run = Run(self.recipe, tuple(Epoch(**epoch) for epoch in about["epochs"]))


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, dict[str, Tensor]]]:
    tensors: dict[str, dict[str, Tensor]] = {"model": {}, "momentum": {}, "mask": {}}
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["run"])
            for key in file.keys():  # noqa: SIM118  not a mapping
                kind, _, name = key.partition("/")
                tensors[kind][name] = file.get_tensor(key)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise FpgmError(f"{path} is not a checkpoint of this tool ({error}); move it away") from error
    return about, tensors


def draw_crops(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """For so many images, each (count, 1): the first row and column of a crop, 0..8, and whether it is flipped."""
    top, left = (torch.randint(0, 9, (count, 1), generator=generator) for _ in range(2))
    return top, left, torch.rand(count, 1, generator=generator) < 0.5


def augment(images: Tensor, crops: Sequence[Tensor]) -> Tensor:
    """Each image (B, C, H, W) padded by 4 zeros, cropped and flipped as `draw_crops` drew.

    Zeros after normalisation are the mean colour. The whole batch at once, on its device.
    """
    count, _, height, width = images.shape
    padded = F.pad(images, (4, 4, 4, 4))
    top, left, flip = (drawn.to(images.device) for drawn in crops)
    rows = top + torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device).expand(count, width)
    columns = left + torch.where(flip, width - 1 - across, across)
    which = torch.arange(count, device=images.device)
    # Advanced indices at the ends put channels last, which is how they are wanted.
    cropped = padded.permute(0, 2, 3, 1)[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)
