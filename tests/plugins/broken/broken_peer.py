from finetuning_scheduler.strategy_adapters import StrategyAdapter


class Adapter(StrategyAdapter):
    """Written for the other package."""
