from phasewire.adapters import StrategyAdapter


class Adapter(StrategyAdapter):
    """Uses hooks that do not exist yet."""

    api_version = "2.0"
