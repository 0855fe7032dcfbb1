"""The lock between running a network and tracing one."""

from __future__ import annotations

import threading

# torch.fx patches nn.Module.__call__ for the whole process while it traces: a network that runs meanwhile in
# another thread is called through the tracer. So whoever traces, and whoever runs a network, holds this.
FORWARD_LOCK = threading.RLock()
