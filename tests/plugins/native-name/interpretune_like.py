from phasewire.adapters import TransformerBridgeStrategyAdapter


class OtherBridgeAdapter(TransformerBridgeStrategyAdapter):
    """Another package's adapter for the same models."""
