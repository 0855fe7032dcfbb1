"""How a network ranks the right class of every image: in batches, on one device, without rounding errors."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from fpgm_core.data import Batch, ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import Flow
from fpgm_core.inference.batches import Kind, batch_of, halve_batch, usual_batch
from fpgm_core.inference.compact_form import compact_on
from fpgm_core.inference.folding import folded_module
from fpgm_core.inference.fusing import fused
from fpgm_core.inference.prefix_cache import Chain
from fpgm_core.pruning import Network
from fpgm_core.runtime.cache import Cache, clear_caches, size_of
from fpgm_core.runtime.cores import alone, each, split, workers
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.locks import FORWARD_LOCK

TOP = 5  # how far down the ranking is told apart
FEW_CLASSES = 10  # of so few being among the first five says little
# bfloat16 moves a logit by about half of this times the logits' size (bundled networks, 5,000 images, dense
# and pruned: the rightful winner never trailed by more than 0.19, where this is 0.25 and more).
DOUBT = 8 * torch.finfo(torch.bfloat16).eps


class Classifier:
    """Classifies on `device` in `dtype`. In bfloat16 every image that rounding might have decided is re-evaluated in
    float32: the ranks are float32's. `doubt` is how small a lead of the right class, as a share of the logits' root
    mean square, leaves that open.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, doubt: float = DOUBT) -> None:
        self.device, self.dtype, self._doubt = device, dtype, doubt

    def batch(self, images: ImageSet) -> int:
        """How many images are classified at once: fewer where they are large, or the device cannot hold more."""
        return batch_of(self._kind, images)

    def short_of_memory(self, images: ImageSet) -> bool:
        """Whether batches had to be made smaller."""
        return self.batch(images) < usual_batch(self._kind, images)

    def stride(self, images: ImageSet) -> int:
        """How many images are classified between two looks: a batch for every core of a CPU, in every process."""
        return usual_batch(self._kind, images) * workers(self.device) * world().count

    @property
    def _kind(self) -> Kind:
        return self.device.type, self.dtype

    def quick(self, chain: Chain, flow: Flow) -> Chain:
        """The same network with its norms folded and its operations fused; it remembers what its parts make."""

        def made() -> Chain:
            parts = [folded_module(part, flow) for part in chain.parts]
            fast = [fused(part, self.dtype, given=index > 0) for index, part in enumerate(parts)]
            return Chain.remembering(fast, str(self.dtype), chain.late)

        return alone(made)

    def ranks(self, network: Chain, images: ImageSet, begin: int, end: int) -> Tensor:
        """How many classes come before the right one, for images `begin` to `end`: uint8 (end - begin,), on the device.

        0 is classified rightly; 5 stands for 5 and more, and with 10 classes or fewer for everything that is not 0.
        """

        def ranks_of_piece(piece: tuple[int, int]) -> Tensor:
            batch = Batch(images, *piece, device=self.device)
            with torch.inference_mode():
                if self.dtype == torch.float32:
                    return ranks_in(network.run(batch)[0], batch.labels)
                return self._ranks_in_low_precision(network, batch)

        # Under torchrun each process answers for its own part of them.
        processes, size = world(), end - begin
        low = begin + size * processes.rank // processes.count
        high = begin + size * (processes.rank + 1) // processes.count
        ranks = torch.zeros(size, dtype=torch.uint8, device=self.device)
        if high > low:
            with FORWARD_LOCK:
                ranks[low - begin : high - begin] = self._piecewise(ranks_of_piece, images, low, high)
        return processes.total(ranks)

    def _piecewise(
        self, ranks_of: Callable[[tuple[int, int]], Tensor], images: ImageSet, begin: int, end: int
    ) -> Tensor:
        """What it says of images `begin` to `end`, in batches that are halved where memory does not hold them."""
        while True:
            try:
                pieces = split(begin, end, self.batch(images), self.device)
                return torch.cat(each(ranks_of, pieces, self.device))
            except torch.OutOfMemoryError as error:
                if not halve_batch(self._kind, images):
                    raise FpgmError(
                        f"the {self.device.type} device has no memory for a single image; close what else uses it, "
                        "or choose another device"
                    ) from error
            clear_caches(self.device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _ranks_in_low_precision(self, network: Chain, batch: Batch) -> Tensor:
        """The ranks of a batch, uint8 (B,): by bfloat16, where rounding might decide by float32."""
        with torch.autocast(self.device.type, self.dtype):
            logits = network.run(batch)[0].float()
        labels, ranks = batch.labels, ranks_in(logits, batch.labels)
        own = logits.gather(1, labels[:, None])[:, 0]
        others = logits.scatter(1, labels[:, None], -torch.inf)
        # Which of two wrong classes wins does not matter: only a lead, or a lag, of the right one can be too small.
        rivals = [0] if logits.shape[1] <= FEW_CLASSES else [0, TOP - 1]
        leads = own[:, None] - others.topk(rivals[-1] + 1, dim=1).values[:, rivals]
        close = (leads.abs() < self._doubt * logits.square().mean().sqrt()).any(1)
        if close.any():
            ranks[close] = ranks_in(network(batch.normalised(close)), labels[close])
        return ranks


def ranks_in(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the right one, uint8 (B,), as `Classifier.ranks` counts them; the first of equals.

    Logits (B, classes) that are not numbers make a wrong answer.
    """
    own, classes = logits.gather(1, labels[:, None]), logits.shape[1]
    later = torch.arange(classes, device=logits.device) > labels[:, None]
    behind = (logits < own) | ((logits == own) & later)
    ranks = (classes - 1 - behind.sum(1)).clamp(max=TOP)
    return (ranks if classes > FEW_CLASSES else ranks.sign() * TOP).to(torch.uint8)


class DenseAnswers:
    """How the dense network ranks the right class of a set's images, found as far as asked."""

    def __init__(self, network: Network, classifier: Classifier) -> None:
        self._classifier = classifier
        dense = compact_on(network.prune(0.0), classifier.device)
        self._network = Chain([fused(folded_module(dense, network.flow), classifier.dtype)])
        self._known = torch.zeros(0, dtype=torch.uint8, device=classifier.device)
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """What the network takes; the answers are a byte an image."""
        return size_of(self._network)

    @property
    def count(self) -> int:
        """For how many images they are found."""
        return len(self._known)

    def up_to(self, count: int, images: ImageSet) -> Tensor:
        """The ranks of the first images, uint8 (at least `count`,): `images` are those that it was made for."""
        with self._lock:
            while len(self._known) < count:
                begin = len(self._known)
                end = min(begin + self._classifier.stride(images), len(images))
                ranks = self._classifier.ranks(self._network, images, begin, end)
                self._known = torch.cat([self._known, ranks])
            return self._known


def dense_answers(network: Network, images: ImageSet, classifier: Classifier) -> DenseAnswers:
    """The dense network's answers to `images`: made once for all who ask about them, or about their first ones."""
    cache = Cache[DenseAnswers]("dense answers", sizeof=lambda answers: answers.nbytes, device=classifier.device)
    key = (network.identity, images.serial, str(classifier.dtype))
    return cache.get_or_make(key, lambda: DenseAnswers(network, classifier))
