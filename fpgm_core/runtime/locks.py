"""The lock between running a network and tracing one."""

from __future__ import annotations

import threading

# torch.fx patches nn.Module.__call__ for the whole process while it traces: a network that runs meanwhile in
# another thread is called through the tracer. So tracing and running a network both hold this lock.
FORWARD_LOCK = threading.RLock()
