"""How Phasewire is put together: the dependency-injection container, and nothing else."""

from __future__ import annotations

from phasewire.containers.container import Container

__all__ = ["Container"]
