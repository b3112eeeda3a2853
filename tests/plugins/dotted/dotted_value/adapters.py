from phasewire.adapters import StrategyAdapter


class DottedAdapter(StrategyAdapter):
    """Found by ``dotted_value.adapters.DottedAdapter``."""
