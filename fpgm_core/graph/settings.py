"""What a module is set to beside its state dict: part of everything that tells two networks apart."""

from __future__ import annotations

from torch import Tensor, nn

from fpgm_core.models import fingerprint

_OF_EVERY_MODULE = vars(nn.Module()).keys()


def settings_of(module: nn.Module) -> str:
    """The settings that modules in `module` may leave out of their repr: plain attributes, and tensors as SHA-256.

    "" where all are PyTorch's own, whose repr says what they do. Plain are numbers, texts, None, and tuples and lists
    of them. The same in every process.
    """
    return "".join(
        f" {name}.{key}={value}"
        for name, part in module.named_modules()
        if not type(part).__module__.startswith("torch.")
        for key, value in _said(part)
    )


def _said(part: nn.Module) -> list[tuple[str, str]]:
    own = {key: value for key, value in sorted(vars(part).items()) if key not in _OF_EVERY_MODULE}
    tensors = {key: value for key, value in own.items() if isinstance(value, Tensor)}
    plain = [(key, repr(value)) for key, value in own.items() if _is_plain(value)]
    return [*plain, ("tensors", fingerprint(tensors))] if tensors else plain


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | complex | str)
