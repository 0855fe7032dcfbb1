"""The recovery ladder: one registry of methods, dearest last, which menus, commands and tests read."""

from __future__ import annotations

from typing import Any

from fpgm_core.data import ImageSet
from fpgm_core.errors import FpgmError
from fpgm_core.pruning import Network, PrunedNetwork
from fpgm_core.recovery.as_is import AS_IS
from fpgm_core.recovery.fine_tuned import FINE_TUNED
from fpgm_core.recovery.merged import MERGED
from fpgm_core.recovery.method import RecoveryMethod
from fpgm_core.recovery.recalibrated import RECALIBRATED
from fpgm_core.recovery.repaired import REPAIRED
from fpgm_core.runtime.registry import Registry

RECOVERY_METHODS = Registry[RecoveryMethod]("recovery method", (AS_IS, MERGED, RECALIBRATED, REPAIRED, FINE_TUNED))


def register_recovery_method(method: RecoveryMethod) -> RecoveryMethod:
    """Add a method of one's own to the registry; returns it.

    Registering another one under the same name replaces it, so that a notebook's cell can be run again. Raises
    FpgmError for a name that one of the library's own methods has.
    """
    return RECOVERY_METHODS.add(method)


def unregister_recovery_method(name: str) -> None:
    """Take out a method that `register_recovery_method` added. Raises FpgmError for any other name."""
    RECOVERY_METHODS.remove(name)


def get_recovery_method(name: str) -> RecoveryMethod:
    """The method called `name`. Raises FpgmError, listing the names, where there is none."""
    if name not in RECOVERY_METHODS:
        raise FpgmError(f"unknown rung {name!r}; choose one of {', '.join(RECOVERY_METHODS)}")
    return RECOVERY_METHODS[name]


def ladder(network: Network | None = None) -> tuple[str, ...]:
    """The names of the methods that take seconds: all but those that train; of a network, those that it has."""
    refused = refused_rungs(network) if network is not None else {}
    return tuple(name for name, method in RECOVERY_METHODS.items() if not method.trains and name not in refused)


def refused_rungs(network: Network) -> dict[str, str]:
    """The rungs that a network does not have, with the reason."""
    reasons = {name: method.refusal(network) for name, method in RECOVERY_METHODS.items()}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def check_rung(network: Network, name: str) -> str:
    """`name`, where a network has that rung. Raises FpgmError, with those it has, where not."""
    get_recovery_method(name)
    reason = refused_rungs(network).get(name)
    if reason is not None:
        raise FpgmError(f"{reason}, so there is no rung {name}; choose one of {', '.join(ladder(network))}")
    return name


def recover(
    pruned: PrunedNetwork,
    method: str,
    images: ImageSet | None = None,
    *,
    device: str = "auto",
    precision: str = "float32",
    **options: Any,
) -> PrunedNetwork:
    """A pruned network brought onto a rung of the ladder: another one, with its provenance.

    `images` are training images; `options` the method's own. For progress and cancelling use the method's `work`.
    Raises FpgmError for an unknown method, and where it needs images and gets none, or too few.
    """
    return get_recovery_method(method).apply(pruned, images, device=device, precision=precision, **options)
