"""Makes the rule handler that suits the settings."""

import os
import random
from collections.abc import Callable, Mapping

from attune_sensor import RuleHandler, SensorContext
from attune_stdio.interpreter import Expressions
from attune_stdio.metrics import StdioMetrics
from attune_stdio.per_rule import PerRuleHandler
from attune_stdio.per_sensor import PerSensorHandler
from attune_stdio.process import own
from attune_stdio.restarts import HEALTHY_AFTER, Restarts
from attune_stdio.settings import Mode, StdioSettings


def handler_for(
    settings: StdioSettings,
    *,
    environment: Mapping[str, str] = os.environ,
    restarts: Restarts | None = None,
    healthy_after: float = HEALTHY_AFTER,
    chance: Callable[[], float] = random.random,
) -> Callable[[SensorContext], RuleHandler]:
    """What :func:`attune_sensor.run_sensor` and :class:`attune_sensor.testing.SensorHarness` take.

    Args:
        settings: what is run, and how.
        environment: what programs inherit.
        restarts: when a program that ended is started again.
        healthy_after: seconds after which a program that was started again is said to work.
        chance: random numbers in [0, 1), for jitter.
    """

    def handler(context: SensorContext) -> RuleHandler:
        chosen = PerSensorHandler if settings.mode is Mode.PER_SENSOR else PerRuleHandler
        return chosen(
            context=context,
            settings=settings,
            metrics=StdioMetrics(context.metrics.registry),
            expressions=Expressions(settings.output, context=context, adopt=own.add, forget=own.discard),
            environment=environment,
            restarts=restarts or Restarts(maximum=settings.max_restart_seconds),
            healthy_after=healthy_after,
            chance=chance,
        )

    return handler
