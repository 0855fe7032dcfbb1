"""A loaded network together with what pruning it needs: its flow, its units, its scores."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from fpgm_core.criteria import (
    NormDiagnostics,
    SelectionOptions,
    batch_norm_scores,
    combined,
    get_criterion,
    overlap,
    score,
    select,
    spearman,
    unit_scores,
)
from fpgm_core.data import DATA, ImageSet, Preprocessing, class_misfit, torchvision_preprocessing
from fpgm_core.errors import FpgmError
from fpgm_core.graph import TRACE_SECONDS, TracedModule, opened, weights_of
from fpgm_core.graph.cost import Cost, count_cost
from fpgm_core.graph.units import Unit
from fpgm_core.models import LoadedModel, load_model
from fpgm_core.pruning.opening import open_module
from fpgm_core.pruning.plan import Plan
from fpgm_core.pruning.pruned import PrunedNetwork
from fpgm_core.pruning.surroundings import Surroundings
from fpgm_core.runtime.memo import Memo
from fpgm_core.runtime.progress import Progress

_MEMO, _COSTS = 8192, 256  # values remembered; costs are large for large networks


class Network(TracedModule):
    """One network, ready to be pruned under any plan: shared between threads, never changed in place.

    `name` and `title` say what it is, `weights` where its weights come from, `trained` whether they were trained;
    `dataset` is the name of the data set that it classifies, "" where that is unknown. `class_names` are in the
    order of its outputs, `normalization` the (mean, std) per channel that it was trained with, for pixels in 0..1;
    either is None where it is unknown. `notice` is what must be known of the weights, or None. What is computed more
    than once (scores, masks) is remembered, in bounded memory.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: tuple[int, int, int],
        *,
        name: str,
        title: str | None = None,
        dataset: str = "",
        class_names: tuple[str, ...] | None = None,
        normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        weights: str = "given",
        trained: bool = True,
        notice: str | None = None,
        shapes_on: str = "meta",
        build: Callable[[], nn.Module] | None = None,
        preprocessing: Preprocessing | None = None,
        traced: GraphModule | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        super().__init__(module, input_shape, shapes_on=shapes_on, traced=traced)
        self.surroundings = surroundings
        self.name, self.title, self.dataset = name, title or name, dataset
        self.class_names, self.normalization = class_names, normalization
        self.weights, self.trained, self.notice = weights, trained, notice
        self._build, self._preprocessing = build, preprocessing
        self._costs = Memo(_COSTS)
        self._scores: Mapping[str, Mapping[str, np.ndarray]] = {}
        self._digests: Mapping[str, str] = {}

    @property
    def settled(self) -> tuple[str, ...]:
        """What of the forward is otherwise here than as it is written, a sentence each: dropout in eval mode, say."""
        return tuple(self.module.meta.get("settled", ())) if isinstance(self.module, torch.fx.GraphModule) else ()

    @classmethod
    def load(
        cls,
        name: str,
        weights: Any = None,
        *,
        input_shape: tuple[int, int, int] | None = None,
        seconds: float = TRACE_SECONDS,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Network:
        """Load a network by its name ("resnet20", "torchvision/resnet50", "timm/resnet50d"), with weights.

        Both as in `models.load_model`; `input_shape` (channels, height, width) where its images have another than its
        weights were published for; the others as in `from_module`.
        """
        loaded = load_model(name, weights)
        info, module, traced = loaded.info, loaded.module, None
        shape = info.input_shape if input_shape is None else input_shape
        if info.library:
            module, traced = opened(module, shape, seconds=seconds, on_progress=on_progress)
        return cls(
            module,
            shape,
            name=info.name,
            title=info.title,
            dataset=info.dataset,
            class_names=loaded.class_names,
            normalization=loaded.normalization,
            weights=loaded.weights,
            trained=loaded.trained,
            notice=loaded.notice,
            preprocessing=_preprocessing(loaded, shape),
            # This project's own networks are small, and known to run: no need of the meta device's import.
            shapes_on="meta" if info.library else "cpu",
            build=info.build if module is loaded.module else None,
            traced=traced,
        )

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        input_shape: tuple[int, int, int] | None = None,
        *,
        example_input: Tensor | None = None,
        name: str | None = None,
        class_names: Sequence[str] | None = None,
        normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        dataset: str = "",
        trained: bool = True,
        preprocessing: Preprocessing | None = None,
        part: str | None = None,
        seconds: float = TRACE_SECONDS,
        on_progress: Callable[[Progress], object] | None = None,
    ) -> Network:
        """Any module that maps images to logits and that torch.fx or torch.export can trace.

        A program of torch.export (what a .pt2 holds, once `torch.export.load` has read it) is a module, too.
        `input_shape` is (channels, height, width); or give an `example_input` (B, C, H, W). `name` is the class's
        unless given. The module is copied once, to the CPU in float32 and eval mode, and never changed. `trained` says
        whether an accuracy of it means anything, `preprocessing` what is done to pictures before it sees them. Tracing
        tells `on_progress` how far it is, and may take so many `seconds`.

        `part` names the module in it that is pruned where all around it stays as it is: the network is that part, its
        answers are what the part answers, and `PrunedNetwork.whole` puts the compact one in its place. torchvision's
        detection networks are opened so, by their backbones.

        Raises FpgmError for what is no module, and where neither a shape nor an example is given; at first use where
        it cannot be traced.
        """
        found = open_module(
            module, input_shape, example_input=example_input, part=part, seconds=seconds, on_progress=on_progress
        )
        name = name or found.kind
        notice = None if trained else f"{name} is not trained: its costs are exact, but no accuracy can be measured"
        return cls(
            found.module,
            found.input_shape,
            name=name,
            dataset=dataset,
            class_names=None if class_names is None else tuple(class_names),
            normalization=normalization,
            trained=trained,
            notice=notice,
            preprocessing=preprocessing,
            traced=found.traced,
            surroundings=found.surroundings,
        )

    @property
    def preprocessing(self) -> Preprocessing | None:
        """What is done to a picture before the network sees it; None where nobody said.

        What was given; else its data set's own, torchvision's or timm's for its weights, or the usual recipe for its
        `normalization`.
        """
        if self._preprocessing is not None:
            return self._preprocessing
        if self.dataset in DATA and (known := DATA[self.dataset].preprocessing) is not None:
            return known
        config = getattr(self.module, "pretrained_cfg", None)
        if isinstance(config, Mapping):
            return Preprocessing.from_timm({**config, "input_size": self.input_shape})
        if self.dataset == "imagenet1k":
            known = torchvision_preprocessing(self.name.rpartition("/")[2], self.weights.rpartition(" ")[2])
            if known is None or known.crop == self.input_shape[1:]:
                return known
            return Preprocessing.for_input(self.input_shape, known.mean, known.std)
        if self.normalization is not None:
            return Preprocessing.for_input(self.input_shape, *self.normalization)
        return None

    def with_module(self, module: nn.Module) -> Network:
        """The same network with other weights: `module` is of the same architecture, and the graph is shared."""
        self.flow, self.layers, self.dense_cost  # noqa: B018  traced once, for both
        other = copy.copy(self)
        other.module, other._memo, other._costs = module, Memo(_MEMO), Memo(_COSTS)
        for name in ("fingerprint", "identity"):
            other.__dict__.pop(name, None)
        return other

    def with_dataset(self, dataset: str, class_names: Sequence[str] | None = None) -> Network:
        """The same network judged on another data set; `class_names` are its own unless given. All else is shared."""
        self.flow  # noqa: B018  traced once, for both
        other = copy.copy(self)
        other._preprocessing = self.preprocessing  # its own, whatever pictures come
        other.dataset = dataset
        other.class_names = self.class_names if class_names is None else tuple(class_names)
        return other

    def check_images(self, images: ImageSet) -> str | None:
        """How the classes of images and the network's outputs may not match, in words; None where nothing says so.

        Raises FpgmError for images of another shape than the network reads, and for labels beyond its outputs.
        """
        height, width, channels = images.pixels.shape[1:]
        if (channels, height, width) != tuple(self.input_shape):
            raise FpgmError(
                f"pictures come out as {channels} x {height} x {width}, and {self.name} reads "
                f"{' x '.join(map(str, self.input_shape))}; resize and crop them to that (--preprocess "
                "resize=...,crop=...)"
            )
        if self.num_classes is not None and images.highest_label >= self.num_classes:
            raise FpgmError(
                f"{images.name} has labels up to {images.highest_label}, and {self.name} has {self.num_classes} "
                "outputs; give images of the classes that it was trained on"
            )
        return class_misfit(images.class_names, self.num_classes, self.class_names)

    def build(self) -> nn.Module:
        """A new module of the same architecture with random weights, drawn from torch's global generator."""
        if self._build is not None:
            return self._build()
        module = copy.deepcopy(self.module)
        for part in module.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
        return module

    def plan(self, rate: float | Mapping[str, float] = 0.0, **fields: Any) -> Plan:
        """A plan for this network: one rate for all units, or a rate by unit name.

        `fields` are the plan's others: criterion, coupling, options, locked_in, locked_out.
        """
        plan = Plan(self.name, self.fingerprint, **fields)
        if not isinstance(rate, Mapping):
            rate = {unit.name: rate for unit in self.units(plan.coupling)}
        plan = plan.with_rates(rate)
        self.check(plan)
        return plan

    def check(self, plan: Plan) -> None:
        """Raise FpgmError where a plan is for another network, other weights, or names unknown units."""
        if plan.model != self.name:
            raise FpgmError(f"the plan is for {plan.model}, not {self.name}; open that model")
        if plan.fingerprint != self.fingerprint:
            raise FpgmError(
                f"the plan was made for other weights of {plan.model} (fingerprint {plan.fingerprint[:12]}, these "
                f"are {self.fingerprint[:12]}); load the weights it was made for, or make a new plan"
            )
        plan.check_units(unit.name for unit in self.units(plan.coupling))

    def scores(
        self, unit: Unit, criterion: str, options: SelectionOptions = SelectionOptions(), stage: int = -1
    ) -> np.ndarray:
        """One score a filter of a unit, float64 (N,), higher = more important: of the criterion's last stage.

        Raises FpgmError for a criterion that needs images, where `with_scores` was not given its scores.
        """
        return combined([self._layer_scores(criterion, member, options, stage) for member in unit.members])

    def with_scores(self, criterion: str, scores: Mapping[str, np.ndarray]) -> Network:
        """The same network with the scores, float64 (N,) by layer, of a criterion that needs images.

        A new value: this one is not changed, and both share everything else that was computed.
        """
        self.flow  # noqa: B018  traced once, for both
        digest = hashlib.sha256(b"".join(name.encode() + scores[name].tobytes() for name in sorted(scores))).hexdigest()
        scored = copy.copy(self)
        scored._scores = {**self._scores, criterion: dict(scores)}
        scored._digests = {**self._digests, criterion: digest}
        return scored

    def has_scores(self, criterion: str) -> bool:
        """Whether plans with this criterion can be made: always, but where it needs images, see `with_scores`."""
        return get_criterion(criterion).needs != "images" or criterion in self._scores

    def scores_digest(self, criterion: str) -> str | None:
        """A hash of the scores that `with_scores` was given of a criterion; None where it was given none."""
        return self._digests.get(criterion)

    def _layer_scores(
        self, criterion: str, layer: str, options: SelectionOptions = SelectionOptions(), stage: int = -1
    ) -> np.ndarray:
        """One layer's scores, remembered: couplings, criteria and diagnostics share them."""
        record, scores = get_criterion(criterion), self._scores.get(criterion)
        if record.needs == "weights":
            score, read = record.stages[stage].score, tuple(getattr(options, name) for name in record.options)
            weights = {layer: weights_of(self.module, layer)}
            return self._memo(("scores", layer, score, read), lambda: unit_scores(score, weights, options=options))
        if scores is None and record.needs == "images":
            raise FpgmError(
                f"{criterion} scores filters by training images, which have not been looked at yet; give images to "
                "prune(), or the scores that score_work makes to with_scores()"
            )
        if scores is None:
            scores = self._memo(("batch norm scores", record), lambda: batch_norm_scores(self, criterion))
        if layer not in scores:
            raise FpgmError(f"{criterion} has no scores for {layer}; choose another criterion for this network")
        return scores[layer]

    def norm_diagnostics(self, layer: str) -> NormDiagnostics:
        """The norm figures of one layer, from the scores that are remembered of it."""
        return NormDiagnostics.of(self._layer_scores("l2_norm", layer), self._layer_scores("fpgm", layer))

    def agreement(self, unit: Unit) -> float | None:
        """Spearman's rank correlation of a unit's norm and FPGM scores; None where either is constant."""
        return self._memo(
            ("agreement", unit.name, unit.members),
            lambda: spearman(self.scores(unit, "l2_norm"), self.scores(unit, "fpgm")),
        )

    def overlap(self, plan: Plan, unit: Unit) -> float | None:
        """What the sets that norm and FPGM prune of a unit share at the plan's rate, 0..1; None where it is 0."""
        rate, options = plan.rate(unit.name), plan.options
        return self._memo(
            ("overlap", unit, rate, options),
            lambda: overlap(*(self._selected(unit, name, rate, options) for name in ("l2_norm", "fpgm"))),
        )

    def member_agreement(
        self, unit: Unit, criterion: str, options: SelectionOptions = SelectionOptions()
    ) -> float | None:
        """How far a unit's members agree: the least rank correlation of a member's own scores with the unit's."""
        own = [replace(unit, name=member, members=(member,)) for member in unit.members]
        together = self.scores(unit, criterion, options)
        agreements = [spearman(self.scores(member, criterion, options), together) for member in own]
        return min((rho for rho in agreements if rho is not None), default=None)

    def _weights(self, unit: Unit) -> dict[str, Any]:
        return {member: weights_of(self.module, member) for member in unit.members}

    def keep_mask(self, plan: Plan, unit: Unit) -> np.ndarray:
        """Which filters of a unit a plan keeps, bool (N,)."""
        locked_in, locked_out = (
            unit.with_copies(locks.get(unit.name, ())) for locks in (plan.locked_in, plan.locked_out)
        )
        return self._selected(unit, plan.criterion, plan.rate(unit.name), plan.options, locked_in, locked_out)

    def _selected(
        self,
        unit: Unit,
        criterion_name: str,
        rate: float,
        options: SelectionOptions,
        locked_in: tuple[int, ...] = (),
        locked_out: tuple[int, ...] = (),
    ) -> np.ndarray:
        criterion = get_criterion(criterion_name)
        read = tuple(getattr(options, name) for name in criterion.options)
        counts = criterion.counts(unit.size, rate, options=options, blocks=unit.blocks)
        return self._memo(
            ("mask", unit, criterion, self.scores_digest(criterion_name), read, counts, locked_in, locked_out),
            lambda: select(
                criterion,
                self._weights(unit),
                rate=rate,
                options=options,
                locked_in=locked_in,
                locked_out=locked_out,
                first_scores=self.scores(unit, criterion_name, options, stage=0) if any(counts) else None,
                blocks=unit.blocks,
                copies=unit.copies,
            ),
        )

    def count_pruned(self, plan: Plan, unit: Unit) -> int:
        """How many filters of a unit a plan prunes: what its rate says, rounded as the plan says."""
        criterion, rate = get_criterion(plan.criterion), plan.rate(unit.name)
        return criterion.count(unit.size, rate, options=plan.options, blocks=unit.blocks)

    def keep_masks(self, plan: Plan) -> dict[str, np.ndarray]:
        """The keep mask, bool (N,), of every layer of every unit. Raises FpgmError for a plan that does not fit."""
        self.check(plan)
        return {
            member: mask
            for unit in self.units(plan.coupling)
            for mask in (self.keep_mask(plan, unit),)
            for member in unit.members
        }

    def plan_that_prunes(self, keep_masks: Mapping[str, np.ndarray], like: Plan) -> Plan:
        """`like` itself where it prunes just what `keep_masks` prune, else one like it with all of that locked out."""
        own = self.keep_masks(like)
        if all(np.array_equal(own[layer], keep_masks[layer]) for layer in own):
            return like
        units = self.units(like.coupling)
        pruned = {unit.name: tuple(map(int, np.flatnonzero(~keep_masks[unit.name]))) for unit in units}
        return replace(
            like,
            options=replace(like.options, mix_share=0.0, round_to=1),
            rates={unit.name: len(pruned[unit.name]) / unit.size for unit in units},
            locked_in={},
            locked_out={name: indices for name, indices in pruned.items() if indices},
        )

    def prune(
        self,
        rate: float | Mapping[str, float] | Plan = 0.0,
        *,
        images: ImageSet | None = None,
        device: torch.device = torch.device("cpu"),
        **fields: Any,
    ) -> PrunedNetwork:
        """Prune by a plan, or by one rate for all units, or by a rate for each unit name: nothing is measured.

        `fields` are the plan's others: criterion, coupling, options, locked_in, locked_out. `images` are training
        images, for criteria that need them where `with_scores` was not given scores. Raises FpgmError for a plan that
        does not fit, or that leaves nothing.
        """
        criterion = rate.criterion if isinstance(rate, Plan) else fields.get("criterion", "fpgm")
        network = self
        if images is not None and not self.has_scores(criterion):
            network = self.with_scores(criterion, score(self, criterion, images, device=device))
        plan = rate if isinstance(rate, Plan) else network.plan(rate, **fields)
        pruned = PrunedNetwork(network, plan, network.keep_masks(plan))
        pruned.live  # noqa: B018  what leaves nothing is refused here
        return pruned

    def cost(self, plan: Plan) -> Cost:
        """MACs and parameters, by layer and in total, exact under the plan's masks."""
        key = plan.key, get_criterion(plan.criterion), self.scores_digest(plan.criterion)
        return self._costs(key, lambda: count_cost(self.flow, self.keep_masks(plan)))


def _preprocessing(loaded: LoadedModel, shape: tuple[int, int, int]) -> Preprocessing | None:
    """What the recipe of a network's library does to pictures, or the usual one for images of another shape.

    None where there is no recipe.
    """
    own = None if loaded.transforms is None else Preprocessing.of_transforms(loaded.transforms)
    if own is None or shape == loaded.info.input_shape:
        return own
    return Preprocessing.for_input(shape, own.mean, own.std)
