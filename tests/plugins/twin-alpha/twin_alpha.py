from phasewire.adapters import StrategyAdapter


class Adapter(StrategyAdapter):
    """One of two."""
