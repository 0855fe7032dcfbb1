"""What changes Python for the whole process while it lasts, and what must not see that."""

from __future__ import annotations

import threading

# torch.fx puts its own functions into the module math while it traces. numba reads that module when it first compiles,
# and keeps what it found for good: compiled at the same time as a trace, UMAP fails until the process ends.
MATH_MODULE = threading.RLock()
