"""How the C library keeps memory."""

from __future__ import annotations

import ctypes
import sys


def keep_memory() -> bool:
    """Tell glibc to keep freed memory instead of handing it back: a training step then faults in no page twice.

    Each tensor above 128 kB would else be mapped, faulted in page by page, and unmapped again at every step. Called by
    commands that train, never at import; says whether it took effect (Linux with glibc). mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return False
    m_trim_threshold, m_mmap_threshold, m_mmap_max, huge = -1, -3, -4, 2**31 - 1
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # The mmap threshold has a ceiling (32 MiB); no mapped blocks at all is what keeps the larger ones too.
    mallopt(m_mmap_threshold, huge)
    return bool(mallopt(m_mmap_max, 0)) and bool(mallopt(m_trim_threshold, huge))
