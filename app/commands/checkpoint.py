"""``phasewire checkpoint``: files of weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phasewire.app.commands.configured import configured_adapter, model_builder
from phasewire.app.commands.reporting import byte_bar, echo_warning
from phasewire.app.commands.wiring import ConfigFiles, InitArgs, OnCpu, container_from, mapping_from_text

if TYPE_CHECKING:
    from phasewire.app.convert import KnownNames
    from phasewire.app.wired import Wired

__all__ = ["checkpoint_app"]

checkpoint_app = typer.Typer(no_args_is_help=True, help="Convert checkpoints.")


@checkpoint_app.callback()
def _checkpoint() -> None:
    """Keep `convert` a command of its own, though it is the only one."""


@checkpoint_app.command("convert")
def convert_checkpoint(
    source: Annotated[
        Path,
        typer.Argument(metavar="IN", help="A Lightning checkpoint, a state dict of torch.save, or .safetensors."),
    ],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The file to write: .ckpt or .safetensors.")],
    to: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="The names to write: canonical (the module's own), or those of an adapter, such as hf and tl.",
            show_default=False,
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS_PATH",
            help="The LightningModule, for a file that records no names; by default that of --config.",
            show_default=False,
        ),
    ] = None,
    init_args: InitArgs = None,
    adapter: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_PATH",
            help="The adapter that knows the names: its name, or module:Class; by default that of --config.",
            show_default=False,
        ),
    ] = None,
    cfg: Annotated[
        str | None, typer.Option(metavar="YAML", help="The adapter's options, as YAML or JSON text: '{prefix: acme}'.")
    ] = None,
    config: ConfigFiles = None,
    on_cpu: OnCpu = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it is there.")] = False,
    unsafe: Annotated[
        bool,
        typer.Option("--unsafe", help="Let IN hold any object. Reading it may run code: only for files you trust."),
    ] = False,
) -> None:
    """Give the tensors in a checkpoint other names, or the file another format; no value changes.

    A file that was written with an adapter that has names of its own records them. For others, such as a Hugging Face
    state dict, name the module and the adapter, or give the --config of a fit.

    Example: `phasewire checkpoint convert best.ckpt model.safetensors --to hf`

    Example: `phasewire checkpoint convert model.safetensors start.ckpt --to canonical --model my_project.Bridged
    --adapter transformerbridge --on-cpu`
    """
    from phasewire.app.convert import convert

    def known_names() -> KnownNames:
        return _known_names(model, init_args, adapter, cfg, container, on_cpu=on_cpu)

    container = container_from(config)
    named = model is not None or adapter is not None
    configured = container.settings().model is not None and container.settings().scheduler.custom_strategy_adapters
    with byte_bar(f"Writing {target.name}") as watch:
        done = convert(
            source,
            target,
            to,
            known=known_names() if named else None,
            otherwise=known_names if configured else None,
            force=force,
            unsafe=unsafe,
            watch=watch,
        )
    typer.echo(f"{target}: {done.tensors} tensors, {_called(done.given)} names to {_called(done.written)} names.")
    if done.left_out:
        echo_warning(f"Only tensors of the module are in it. Left out: {', '.join(done.left_out)}.")


def _known_names(
    model: str | None,
    init_args: str | None,
    adapter: str | None,
    cfg: str | None,
    container: Wired,
    *,
    on_cpu: bool,
) -> KnownNames:
    from phasewire.adapters.errors import ConfigError
    from phasewire.app.known_names import names_known_by
    from phasewire.app.plan import build_model

    where = "--adapter"
    if adapter is not None:
        built = container.resolver().record_of(adapter, where=where)(**mapping_from_text(cfg, "--cfg"))
    else:
        configured = None if cfg is not None else configured_adapter(container)
        if configured is None:
            raise ConfigError(
                "Names are known by an adapter, and none is given.",
                where=where,
                remedy="Name it, or give --config FILE that maps one to the strategy; neither for a file that records "
                "its names.",
            )
        built = configured
    build = model_builder(model, init_args, container, needed_by="checkpoint convert --model")
    return names_known_by(
        built,
        build_model(build, on_meta=not on_cpu, warn=echo_warning),
        container.translator(),
        container.model_views(),
    )


def _called(word: str) -> str:
    from phasewire.adapters.renaming import OWN_NAMES
    from phasewire.app.convert import CANONICAL

    return CANONICAL if word == OWN_NAMES else word
