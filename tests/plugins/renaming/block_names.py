"""Checkpoints whose layers are called blocks: by a dict, and by a pair of functions."""

from phasewire.adapters import Renaming, StrategyAdapter


class BlockNamesAdapter(StrategyAdapter):
    """Stores ``layers.0.weight`` as ``blocks.0.weight`` and ``head.weight`` as ``unembed.weight``."""

    checkpoint_names = "blocks"

    def checkpoint_renamings(self):
        return {"blocks": Renaming({"layers": "blocks", "head": "unembed"}), "flat": Renaming((to_flat, from_flat))}


class BlockFunctionsAdapter(StrategyAdapter):
    """Knows the names, and stores the module's own unless the user says otherwise."""

    def checkpoint_renamings(self):
        return {"flat": Renaming((to_flat, from_flat))}


def to_flat(name):
    return name.replace(".", "/")


def from_flat(name):
    return name.replace("/", ".")
