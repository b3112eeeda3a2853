from phasewire.adapters import StrategyAdapter


class FiveLineAdapter(StrategyAdapter):
    def on_phase_thawed(self, depth):
        self.pl_module.hparams["phase"] = depth
