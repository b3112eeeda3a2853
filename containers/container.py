"""The wiring of Phasewire. Nothing is decided here: classes are named, and handed to those that need them."""

from __future__ import annotations

from dependency_injector import containers, providers

from phasewire.app.checkpoint import CheckpointTranslator
from phasewire.app.discovery import NATIVE_ADAPTERS, AdapterRecord, DiscoveryService
from phasewire.app.known_adapters import KnownAdapters
from phasewire.app.model_views import ModelViews
from phasewire.app.phases.scheduler import FinetuningScheduler
from phasewire.app.resolver import AdapterResolver
from phasewire.app.run_parts import build_datamodule, build_model, build_trainer
from phasewire.app.schedule.validate import ScheduleValidator
from phasewire.app.schedule_generators import ScheduleGenerators
from phasewire.app.settings_reader import SettingsReader
from phasewire.app.transition_criteria import TransitionCriteria
from phasewire.app.trust import TrustPolicy
from phasewire.containers.configuration import YamlConfiguration
from phasewire.containers.lazy_aggregate import LazyAggregate

__all__ = ["Container"]


class Container(containers.DeclarativeContainer):
    """Builds the callback, and for runs that YAML describes whole, the model, its data and the Trainer.

    ``container.scheduler()`` is a callback ready for a Trainer, ``container.scheduler(max_depth=2)`` overrides one
    argument, and any provider can be overridden: ``container.validator.override(...)``. Everything but ``settings`` is
    built anew at every call.
    """

    config = YamlConfiguration()
    settings_reader = providers.Singleton(SettingsReader)
    settings = providers.Callable(SettingsReader.read, settings_reader, config)

    trust = providers.Factory(
        TrustPolicy,
        enabled=settings.provided.discovery.enabled,
        allow=settings.provided.discovery.allow,
        deny=settings.provided.discovery.deny,
        allow_paths=settings.provided.discovery.allow_paths,
    )
    discovery = providers.Factory(DiscoveryService, group=settings.provided.discovery.group, trust=trust)
    schedule_generators = providers.Factory(ScheduleGenerators, trust=trust)
    transition_criteria = providers.Factory(TransitionCriteria, trust=trust)
    model_views = providers.Factory(ModelViews, trust=trust)
    adapters = LazyAggregate(
        {
            "fsdp": providers.Factory(AdapterRecord("fsdp", NATIVE_ADAPTERS["fsdp"], native=True)),
            "modelparallelstrategy": providers.Factory(
                AdapterRecord("modelparallelstrategy", NATIVE_ADAPTERS["modelparallelstrategy"], native=True)
            ),
            "transformerbridge": providers.Factory(
                AdapterRecord("transformerbridge", NATIVE_ADAPTERS["transformerbridge"], native=True)
            ),
        },
        discovery,
    )
    resolver = providers.Factory(AdapterResolver, discovery=discovery, trust=trust)
    known_adapters = providers.Factory(KnownAdapters, discovery=discovery)
    validator = providers.Factory(ScheduleValidator)
    translator = providers.Factory(CheckpointTranslator)

    scheduler = providers.Factory(
        FinetuningScheduler,
        ft_schedule=settings.provided.scheduler.ft_schedule,
        max_depth=settings.provided.scheduler.max_depth,
        base_max_lr=settings.provided.scheduler.base_max_lr,
        restore_best=settings.provided.scheduler.restore_best,
        gen_ft_sched_only=settings.provided.scheduler.gen_ft_sched_only,
        epoch_transitions_only=settings.provided.scheduler.epoch_transitions_only,
        reinit_optim_cfg=settings.provided.scheduler.reinit_optim_cfg,
        reinit_lr_cfg=settings.provided.scheduler.reinit_lr_cfg,
        strategy_adapter_cfg=settings.provided.scheduler.strategy_adapter_cfg,
        custom_strategy_adapters=settings.provided.scheduler.custom_strategy_adapters,
        allow_untested=settings.provided.scheduler.allow_untested,
        apply_lambdas_new_pgs=settings.provided.scheduler.apply_lambdas_new_pgs,
        logging_level=settings.provided.scheduler.logging_level,
        enforce_phase0_params=settings.provided.scheduler.enforce_phase0_params,
        frozen_bn_track_running_stats=settings.provided.scheduler.frozen_bn_track_running_stats,
        log_dir=settings.provided.scheduler.log_dir,
        schedule_generator=settings.provided.scheduler.schedule_generator,
        schedule_generator_cfg=settings.provided.scheduler.schedule_generator_cfg,
        transition_criteria=settings.provided.scheduler.transition_criteria,
        progress_bar=settings.provided.scheduler.progress_bar,
        log_phase_metrics=settings.provided.scheduler.log_phase_metrics,
        run_record=settings.provided.scheduler.run_record,
        resolver=resolver,
        validator=validator,
        translator=translator,
        schedule_generators=schedule_generators,
        criteria=transition_criteria,
        model_views=model_views,
    )

    model = providers.Factory(build_model, settings, config)
    datamodule = providers.Factory(build_datamodule, settings, config)
    trainer = providers.Factory(build_trainer, settings, config, scheduler)
