from phasewire.adapters import StrategyAdapter


class PlainClass:
    """Has nothing to do with adapters."""


def make():
    """An adapter comes out of it, but it is no class."""
    return StrategyAdapter()
