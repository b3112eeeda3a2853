"""Schedules of whole layers, with a file name, a syntax and a validation of its own."""

from fnmatch import filter as matching

from phasewire.adapters import ScheduleError, StrategyAdapter


class LayerwiseAdapter(StrategyAdapter):
    """The name of a layer stands for all its parameters; patterns are those of a shell."""

    def gen_ft_schedule(self, dump_loc):
        layers = list(reversed(self._parameters_by_layer()))
        schedule = {depth: {"params": [layer], "max_transition_epoch": depth + 1} for depth, layer in enumerate(layers)}
        return self.fts_handle.save_schedule("layerwise.yaml", schedule, dump_loc)

    def validate_ft_sched(self):
        layers = list(self._parameters_by_layer())
        schedule = self.fts_handle.ft_schedule
        for depth, phase in schedule.items():
            phase["params"] = [layer for pattern in phase["params"] for layer in matching(layers, pattern)]
            if not phase["params"]:
                raise ScheduleError("No layer matches.", where=f"phase {depth}")
        return max(schedule), max(phase.get("max_transition_epoch", -1) for phase in schedule.values())

    def fts_optim_transform(self, orig_pl, inspect_only=False):
        by_layer = self._parameters_by_layer()
        return [name for layer in orig_pl for name in by_layer[layer]]

    def logical_param_translation(self, param_names):
        return list(dict.fromkeys(name.rpartition(".")[0] for name in param_names))

    def _parameters_by_layer(self):
        by_layer = {}
        for name, _ in self.pl_module.named_parameters():
            by_layer.setdefault(name.rpartition(".")[0], []).append(name)
        return by_layer
