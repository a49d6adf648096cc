"""What this process may use of its machine."""

from __future__ import annotations

import os


def cores() -> int:
    """The cores that this process may run on; 1 where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
