"""Which images a network classifies rightly: in batches, on one device, in one precision, without rounding errors."""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from fpgm_core.data import Batch, ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.graph import Flow
from fpgm_core.inference.folding import folded_module
from fpgm_core.inference.fusing import fused
from fpgm_core.inference.prefix_cache import Chain
from fpgm_core.pruning import Network
from fpgm_core.runtime.cache import Cache, clear_caches, size_of
from fpgm_core.runtime.cores import each, split, workers
from fpgm_core.runtime.device import to_device
from fpgm_core.runtime.distributed import world
from fpgm_core.runtime.locks import FORWARD_LOCK

# Small enough that activations stay in a CPU's caches (bfloat16's are half as large), large enough to fill a GPU.
BATCH = {
    ("cpu", torch.float32): 100,
    ("cpu", torch.bfloat16): 250,
    ("cuda", torch.float32): 1000,
    ("cuda", torch.bfloat16): 1000,
    ("mps", torch.float32): 500,
    ("mps", torch.bfloat16): 500,
}
_LARGEST = dict(BATCH)  # what the devices' memory has held so far: halved where it did not
# bfloat16 moves a logit by about half of this times the logits' size (bundled networks, 5,000 images, dense
# and pruned: the rightful winner never trailed by more than 0.19, where this is 0.25 and more).
DOUBT = 8 * torch.finfo(torch.bfloat16).eps


class Classifier:
    """Classifies on `device` in `dtype`. In bfloat16 every image that rounding might have decided is re-evaluated in
    float32: right and wrong are float32's. `doubt` is how small a lead of the right class, as a share of the logits'
    root mean square, leaves that open.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, *, doubt: float = DOUBT) -> None:
        self.device, self.dtype, self._doubt = device, dtype, doubt

    @property
    def batch(self) -> int:
        """How many images are classified at once: fewer than usual where the device cannot hold more."""
        return _LARGEST[self.device.type, self.dtype]

    @property
    def short_of_memory(self) -> bool:
        """Whether batches had to be made smaller."""
        return self.batch < BATCH[self.device.type, self.dtype]

    @property
    def stride(self) -> int:
        """How many images are classified between two looks: a batch for every core of a CPU, in every process."""
        return BATCH[self.device.type, self.dtype] * workers(self.device) * world().count

    def quick(self, chain: Chain, flow: Flow) -> Chain:
        """The same network with its norms folded and its operations fused; it remembers what its parts make."""
        parts = [folded_module(part, flow) for part in chain.parts]
        fast = [fused(part, self.dtype, given=index > 0) for index, part in enumerate(parts)]
        return Chain.remembering(fast, str(self.dtype), chain.late)

    def right(self, network: Chain, images: ImageSet, begin: int, end: int) -> Tensor:
        """Which of images `begin` to `end` are classified rightly, bool (end - begin,), on the device."""

        def right_of(piece: tuple[int, int]) -> Tensor:
            batch = Batch(images, *piece)
            with torch.inference_mode():
                if self.dtype == torch.float32:
                    return network.run(batch)[0].argmax(1) == batch.labels
                return self._right_in_low_precision(network, batch)

        # Under torchrun each process answers for its own part of them.
        processes, size = world(), end - begin
        low = begin + size * processes.rank // processes.count
        high = begin + size * (processes.rank + 1) // processes.count
        right = torch.zeros(size, dtype=torch.uint8, device=self.device)
        if high > low:
            with FORWARD_LOCK:
                right[low - begin : high - begin] = self._piecewise(right_of, low, high)
        return processes.total(right).bool()

    def _piecewise(self, right_of: Callable[[tuple[int, int]], Tensor], begin: int, end: int) -> Tensor:
        """What it says of images `begin` to `end`, in batches that are halved where memory does not hold them."""
        kind = self.device.type, self.dtype
        while True:
            try:
                pieces = split(begin, end, _LARGEST[kind], self.device)
                return torch.cat(each(right_of, pieces, self.device))
            except torch.OutOfMemoryError as error:
                if _LARGEST[kind] == 1:
                    raise FpgmError(
                        f"the {self.device.type} device has no memory for a single image; close what else uses it, "
                        "or choose another device"
                    ) from error
                _LARGEST[kind] //= 2
            clear_caches(self.device)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _right_in_low_precision(self, network: Chain, batch: Batch) -> Tensor:
        """Which of a batch are classified rightly, bool (B,): by bfloat16, where rounding might decide by float32."""
        with torch.autocast(self.device.type, self.dtype):
            logits = network.run(batch)[0].float()
        own = batch.labels[:, None]
        lead = logits.gather(1, own)[:, 0] - logits.scatter(1, own, -torch.inf).amax(1)
        # Which of two wrong classes wins does not matter: only a lead, or a lag, of the right one can be too small.
        close = lead.abs() < self._doubt * logits.square().mean().sqrt()
        right = lead > 0
        if close.any():
            right[close] = network(batch.normalised(close)).argmax(1) == batch.labels[close]
        return right


def reset_batches() -> None:
    """Try batches of the usual size again, on every device: for when other programs have left its memory."""
    _LARGEST.update(BATCH)


class DenseAnswers:
    """Which images of a set the dense network classifies rightly, found as far as asked."""

    def __init__(self, network: Network, images: ImageSet, classifier: Classifier) -> None:
        self._images, self._classifier = images, classifier
        dense = to_device(network.prune(0.0).compact(aligned=True), classifier.device)
        self._network = Chain([fused(folded_module(dense, network.flow), classifier.dtype)])
        self._known = torch.zeros(0, dtype=torch.bool, device=classifier.device)
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """What it takes once all are found; the images are everybody's."""
        return size_of(self._network) + len(self._images)

    def up_to(self, count: int) -> Tensor:
        """Bool (at least `count`,)."""
        with self._lock:
            while len(self._known) < count:
                begin = len(self._known)
                end = min(begin + self._classifier.stride, len(self._images))
                right = self._classifier.right(self._network, self._images, begin, end)
                self._known = torch.cat([self._known, right])
            return self._known


def dense_answers(network: Network, images: ImageSet, classifier: Classifier) -> DenseAnswers:
    """The dense network's answers to `images`, which lie on the classifier's device: made once for all who ask."""
    cache = Cache[DenseAnswers]("dense answers", sizeof=lambda answers: answers.nbytes, device=classifier.device)
    # The answers have the images: as long as they are remembered, no other set has these addresses.
    where = images.pixels.data_ptr(), images.labels.data_ptr(), len(images), images.mean, images.std
    key = (network.identity, where, str(classifier.dtype))
    return cache.get_or_make(key, lambda: DenseAnswers(network, images, classifier))
