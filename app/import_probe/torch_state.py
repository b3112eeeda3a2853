"""What torch keeps for the whole process."""

from __future__ import annotations

import torch

__all__ = ["differences", "torch_state"]


def torch_state() -> dict[str, str]:
    """Give what torch keeps for the whole process and an import could change.

    Returns:
        The name of each setting, and its value as text.
    """
    return {
        "the default dtype": str(torch.get_default_dtype()),
        "the default device": str(torch.get_default_device()),
        "whether gradients are recorded": str(torch.is_grad_enabled()),
        "the deterministic algorithms": str(
            (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())
        ),
        "the number of threads": str((torch.get_num_threads(), torch.get_num_interop_threads())),
        "the precision of float32 products": torch.get_float32_matmul_precision(),
        "the random state": str(hash(torch.get_rng_state().numpy().tobytes())),
        "anomaly detection": str(torch.is_anomaly_enabled()),
        "the settings of cuDNN": str((torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)),
    }


def differences(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Compare two states.

    Args:
        before: What :func:`torch_state` gave.
        after: What it gave later, in the same process.

    Returns:
        What changed, with the old and the new value where a person can read them.
    """
    return tuple(
        name if name == "the random state" else f"{name} (from {value} to {after[name]})"
        for name, value in before.items()
        if after[name] != value
    )
