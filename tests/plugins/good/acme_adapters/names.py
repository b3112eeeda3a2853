"""Parameter names under a prefix."""

from phasewire.adapters import StrategyAdapter


class PrefixedNamesAdapter(StrategyAdapter):
    """Lets schedules name ``layer.weight`` as ``<prefix>.layer.weight``."""

    api_version = "1.0"

    def __init__(self, prefix="acme", **cfg):
        super().__init__(**cfg)
        self.prefix = f"{prefix}."

    def get_named_params_for_schedule_validation(self):
        return {self.prefix + name: parameter for name, parameter in self.pl_module.named_parameters()}

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        return [name.removeprefix(self.prefix) for name in orig_pl]

    def logical_param_translation(self, param_names):
        return [self.prefix + name for name in param_names]
