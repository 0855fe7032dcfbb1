"""Small networks written for one rule each, and what a pruned one must compute and cost, found by running."""

import copy

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode


def conv(inputs, outputs, kernel=3, **options):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


class Toy(nn.Module):
    """Layers by name, and a forward given as a function of them and the image; 5 outputs."""

    def __init__(self, forward, **layers):
        super().__init__()
        self.body = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.body(self, x)


def head(net, x):
    return net.fc(torch.flatten(F.adaptive_avg_pool2d(F.relu(x), 1), 1))


def close(first, second, scale):
    return float((first - second).abs().max()) <= 1e-4 * float(scale.abs().max())


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
JOINT = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)  # norms over several channels; layer norms over the last dimension


def over_what_is_there(norm, x):
    """A norm by hand, of what is not zero in every image: each group, or all channels, by itself."""
    last = not isinstance(norm, nn.GroupNorm)
    x = x.movedim(-1, 1) if last else x
    there, out = x.transpose(0, 1).flatten(1).ne(0).any(1), torch.zeros_like(x)
    dims = (1,) if last else tuple(range(1, x.ndim))
    for group in torch.arange(x.shape[1]).chunk(1 if last else norm.num_groups):
        group = group[there[group]]
        part, shape = x[:, group], (1, -1, *(1,) * (x.ndim - 2))
        mean = 0 if isinstance(norm, nn.RMSNorm) else part.mean(dims, keepdim=True)
        part = (part - mean) / ((part - mean).square().mean(dims, keepdim=True) + norm.eps).sqrt()
        out[:, group] = part * norm.weight[group].view(shape)
        if getattr(norm, "bias", None) is not None:
            out[:, group] += norm.bias[group].view(shape)
    return out.movedim(1, -1) if last else out


def silenced(network, masks, images):
    """What a pruned network must compute, by hooks: a removed filter's channel is 0 after its own norm.

    A filter that reads nothing writes nothing: which do is found on a copy whose weights and images are positive, where
    nothing but what is absent is 0. Only for networks in which a layer's norm runs right after it.
    """
    fed = []
    with torch.no_grad():
        _silenced(_positive(network.module), masks, images.abs() + 0.1, lambda found: fed.append(found) or found)
    return _silenced(network.module, masks, images, lambda found: fed.pop(0))


def _positive(module):
    probe = copy.deepcopy(module)
    for part in probe.modules():
        if isinstance(part, NORMS):
            part.reset_running_stats()
            part.reset_parameters()
        elif isinstance(part, (*CONVOLUTIONS, nn.Linear)):
            part.weight.abs_().add_(1e-3)
            if part.bias is not None:
                part.bias.zero_()
    return probe


def _silenced(module, masks, images, judged):
    """A run in which `judged` says, of which filters find something to read, which are taken to."""
    names = {part: name for name, part in module.named_modules()}
    handles, current = [], []

    def silence(part, inputs, output):
        if isinstance(part, nn.Linear):
            if output.ndim == 2:
                return output
            fed = judged(inputs[0].flatten(0, -2).any().numpy())
            return output * torch.as_tensor(masks.get(names[part], True) & fed)
        if isinstance(part, JOINT):
            return over_what_is_there(part, inputs[0])
        if isinstance(part, CONVOLUTIONS):
            fed = inputs[0].flatten(2).ne(0).any(2).any(0).reshape(part.groups, -1).any(1)  # one flag a group
            fed = fed.repeat_interleave(part.out_channels // part.groups).numpy()
            current[:] = [masks.get(names[part], True) & judged(fed)]
        return output * torch.tensor(current[0]).view(1, -1, *(1,) * (output.ndim - 2))

    for part in module.modules():
        if isinstance(part, (*CONVOLUTIONS, *NORMS, nn.Linear, *JOINT)):
            handles.append(part.register_forward_hook(silence))
    try:
        return module(images)
    finally:
        for handle in handles:
            handle.remove()


def run_cost(module, shape):
    """(MACs, parameters) of a network itself: PyTorch's counter over one image (2 per MAC), and a sum."""
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2, sum(p.numel() for p in module.parameters())


def asserted_of_data(net, x):
    """A forward that asserts something of data: here, since pytest writes assertions of test files anew."""
    assert not torch.isnan(x).any(), "not a number"
    y = F.relu(net.a(x))
    assert y.isfinite().all() and y.shape[1] == 8  # noqa: PT018  two truths, one assertion
    if y.isinf().any():
        raise ValueError("infinite")
    return head(net, net.b(y))
