"""Several processes that share one piece of work, as torchrun starts them; without it, a world of one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from fpgm_core.errors import FpgmError


@dataclass(frozen=True)
class World:
    """This process's `rank` among `count` processes; only the main one, rank 0, writes files and prints."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def mine(self, items: Tensor) -> Tensor:
        """This process's part of `items`, which all processes have in the same order: every `count`-th."""
        return items[self.rank :: self.count]

    def total(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place; integers are exact."""
        if self.count > 1:
            dist.all_reduce(tensor)
        return tensor

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the main one's values, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        """Wait until every process has come to this point."""
        if self.count > 1:
            dist.barrier()


def world() -> World:
    """The processes that this one belongs to; itself alone outside `joined_world`."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def joined_world() -> Iterator[World]:
    """Join the other processes if torchrun started this one: over nccl with GPUs, else gloo.

    Raises FpgmError if there are more processes than GPUs.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ
    if alone or world().count > 1:  # or the caller has joined
        yield world()
        return
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise FpgmError(f"more processes than the {torch.cuda.device_count()} GPUs here; lower --nproc-per-node")
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield world()
    finally:
        dist.destroy_process_group()
