"""Small networks written for one rule each, and what a pruned one must compute and cost, found by running."""

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

    Only for networks in which a layer runs once; which norm follows which convolution is read off the run.
    """
    names = {module: name for name, module in network.module.named_modules()}
    handles, current = [], []

    def silence(module, inputs, output):
        if isinstance(module, nn.Linear):
            if output.ndim == 2:
                return output
            fed = inputs[0].flatten(0, -2).any()
            return output * torch.as_tensor(masks.get(names[module], True) & fed.numpy())
        if isinstance(module, JOINT):
            return over_what_is_there(module, inputs[0])
        if isinstance(module, nn.Conv2d):
            fed = inputs[0].flatten(2).ne(0).any(2).any(0).reshape(module.groups, -1).any(1)  # one flag a group
            fed = fed.repeat_interleave(module.out_channels // module.groups).numpy()
            current[:] = [masks.get(names[module], True) & fed]  # a filter that reads nothing writes nothing
        return output * torch.tensor(current[0])[None, :, None, None]

    for module in network.module.modules():
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear, *JOINT)):
            handles.append(module.register_forward_hook(silence))
    try:
        return network.module(images)
    finally:
        for handle in handles:
            handle.remove()


def run_cost(module, shape):
    """(MACs, parameters) of a network itself: PyTorch's counter over one image (2 per MAC), and a sum."""
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *shape))
    return counter.get_total_flops() // 2, sum(p.numel() for p in module.parameters())
