"""What importing a module does to the process, found out in processes of their own.

One process, the prober (``server.py``), imports torch and the adapter contract once, which takes seconds. Each module
is then imported in a fork of it: every import begins in the same state, and nothing that one does reaches another. The
prober itself asks nothing of CUDA and starts no thread of Python, which is what makes its forks sound. Where there are
no forks, each module has a prober of its own.
"""

from __future__ import annotations

from phasewire.app.import_probe.client import ImportProber, ImportReport

__all__ = ["ImportProber", "ImportReport"]
