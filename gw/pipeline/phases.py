"""The phases of a request, and what of them one route walks: settled when configuration changes, a tuple per phase.

`request` holds everything before a node is chosen, in the order of APISIX: rewrite and access of the global rules, then
rewrite and access of the route (apisix/init.lua, http_access_phase). Within a phase the higher priority goes first; of
equal ones the name decides, so that the order does not depend on who was loaded first.

Where a plugin may find out which consumer a request comes from, the route's rewrite phase ends with a step of the
gateway's own (gw.pipeline.joining), which walks what comes after it: the plugins may be others for that consumer.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any, Final, NamedTuple, Protocol

from gw.pipeline.meta_filter import MetaFilter, only_where

REQUEST_PHASES: Final = ("rewrite", "access", "before_proxy")
RESPONSE_PHASES: Final = ("header_filter", "body_filter", "log")
PHASES: Final = REQUEST_PHASES + RESPONSE_PHASES


class Step(NamedTuple):
    """One method of one instance, ready to be called. `plugin` and `owner` are for the log."""

    run: Callable[..., Any]
    plugin: str
    owner: str
    is_async: bool


@dataclass(frozen=True, slots=True)
class Phases:
    """What one route walks. Empty tuples cost nothing.

    `rest`: what comes after the step that looks for a consumer; it is walked by that step, and not in `request`.
    `filters_await`: a filter of the response is a coroutine function; `changes_body`: a body filter may let other bytes
    pass than came.
    """

    request: tuple[Step, ...] = ()
    before_proxy: tuple[Step, ...] = ()
    header_filter: tuple[Step, ...] = ()
    body_filter: tuple[Step, ...] = ()
    log: tuple[Step, ...] = ()
    rest: tuple[Step, ...] = ()
    filters_await: bool = False
    changes_body: bool = False


NO_PHASES: Final = Phases()


class Runnable(Protocol):
    """What the pipeline asks of a plugin's instance: phases are looked up as methods. See gw.plugins.api.Plugin."""

    @property
    def name(self) -> str: ...


class Instance(NamedTuple):
    """A plugin's instance and how it takes part. `owner`: `routes/1`, `global_rules/2`, ..."""

    plugin: Runnable
    priority: int
    owner: str
    meta: Mapping[str, Any]


class CompileFilter(Protocol):
    """Compiles `_meta.filter`, a `vars` expression, to a predicate over the context. Raises ValueError."""

    def __call__(self, expression: Any) -> Callable[[Any], bool]: ...


def settle(
    global_rules: Iterable[Instance],
    route: Iterable[Instance],
    compile_filter: CompileFilter | None = None,
    join: Step | None = None,
) -> Phases:
    """Put steps in order: instances of global rules, and of one route (already merged, each plugin once).

    `join` ends the rewrite phase where one of them may attach a consumer.
    """
    chains = _Chains(global_rules, route, compile_filter)
    before = chains.of(("global", "rewrite"), ("global", "access"), ("route", "rewrite"))
    access = chains.of(("route", "access"))
    if join is None or not chains.attaches:
        return chains.phases((*before, *access))
    return chains.phases((*before, join), access)


def settle_joined(
    base: Phases,
    global_rules: Iterable[Instance],
    route: Iterable[Instance],
    rewritten: Collection[str],
    compile_filter: CompileFilter | None = None,
) -> Phases:
    """What a request goes on with when its consumer is known. `route`: the instances of the route for this consumer.

    `base` brought the request here; the plugins whose rewrite phase it ran (`rewritten`) do not run it again, as in
    APISIX's phase rewrite_in_consumer.
    """
    route = list(route)
    new = [instance for instance in route if instance.plugin.name not in rewritten]
    rewrite = _Chains((), new, compile_filter).of(("route", "rewrite"))
    # One that was rewritten as the route has it may be configured otherwise from here on, with another filter.
    others = [instance for instance in route if instance.plugin.name in rewritten]
    questions = _Chains((), others, compile_filter).questions
    chains = _Chains(global_rules, route, compile_filter)
    return chains.phases(base.request, (*rewrite, *questions, *chains.of(("route", "access"))))


class _Chains:
    """The steps of two groups of instances by phase."""

    def __init__(
        self, global_rules: Iterable[Instance], route: Iterable[Instance], compile_filter: CompileFilter | None
    ) -> None:
        groups = {"global": sorted(global_rules, key=_order), "route": sorted(route, key=_order)}
        self._instances = [instance for instances in groups.values() for instance in instances]
        self._filters = {id(instance): _filter_of(instance, compile_filter) for instance in self._instances}
        self._steps = {
            (group, phase): [
                step for instance in instances for step in _steps_of(instance, phase, self._filters[id(instance)])
            ]
            for group, instances in groups.items()
            for phase in PHASES
        }

    @property
    def attaches(self) -> bool:
        """Whether one of the plugins may attach a consumer."""
        return any(map(attaches_consumers, self._instances))

    @property
    def questions(self) -> tuple[Step, ...]:
        """What awaits the bodies that filters read; each answers once, whoever asks again."""
        asked = ((instance, self._filters[id(instance)]) for instance in self._instances)
        return tuple(_question(instance, holds) for instance, holds in asked if holds is not None and holds.waits)

    def of(self, *parts: tuple[str, str]) -> tuple[Step, ...]:
        """The steps of these groups and phases, one after the other."""
        return tuple(step for part in parts for step in self._steps[part])

    def phases(self, request: tuple[Step, ...], rest: tuple[Step, ...] = ()) -> Phases:
        """All phases, with these steps before a node is chosen."""
        later = {phase: self.of(("global", phase), ("route", phase)) for phase in PHASES[2:]}
        return Phases(
            request=request,
            rest=rest,
            filters_await=any(step.is_async for step in (*later["header_filter"], *later["body_filter"])),
            changes_body=any(map(_may_change_body, self._instances)),
            **later,
        )


def attaches_consumers(instance: Instance) -> bool:
    """Whether a plugin may find out which consumer a request comes from."""
    return bool(getattr(instance.plugin, "attaches_consumers", False))


def _order(instance: Instance) -> tuple[int, str]:
    return -instance.priority, instance.plugin.name


def _takes_part(instance: Instance, phase: str) -> bool:
    return getattr(instance.plugin, phase, None) is not None


def _is_asked_before(instance: Instance, phase: str) -> bool:
    """Whether `_meta.filter` of a body filter is asked in this phase: the head can still say that it has no answer."""
    is_asked = "filter" in instance.meta and "body_filter" not in _unconditional(instance)
    return phase == "header_filter" and is_asked and _takes_part(instance, "body_filter")


def _unconditional(instance: Instance) -> Collection[str]:
    phases: Collection[str] = getattr(instance.plugin, "unconditional_phases", ())
    return phases


def _may_change_body(instance: Instance) -> bool:
    return _takes_part(instance, "body_filter") and not getattr(instance.plugin, "only_reads_body", False)


def _filter_of(instance: Instance, compile_filter: CompileFilter | None) -> MetaFilter | None:
    expression = instance.meta.get("filter")
    if expression is None or compile_filter is None:
        return None
    return MetaFilter(instance.owner, instance.plugin.name, compile_filter(expression))


def _steps_of(instance: Instance, phase: str, meta_filter: MetaFilter | None) -> Iterator[Step]:
    """The plugin's own step where it takes part, and before its first one that which awaits what its filter reads."""
    if meta_filter is not None and meta_filter.waits:
        first = "rewrite" if _takes_part(instance, "rewrite") else "access"
        if phase == first:
            yield _question(instance, meta_filter)
    if _takes_part(instance, phase) or _is_asked_before(instance, phase):
        yield _step(instance, phase, meta_filter)


def _question(instance: Instance, meta_filter: MetaFilter) -> Step:
    return Step(meta_filter.prepare, instance.plugin.name, instance.owner, True)


def _step(instance: Instance, phase: str, meta_filter: MetaFilter | None) -> Step:
    method = getattr(instance.plugin, phase, _nothing)
    run, is_async = method, iscoroutinefunction(method)
    if phase == "body_filter" and not _may_change_body(instance):
        run = _only_reading(run, is_async)
    if (response := instance.meta.get("error_response")) is not None and phase in REQUEST_PHASES:
        run = _with_error_response(run, response, is_async)
    if meta_filter is not None and phase not in _unconditional(instance):
        run = only_where(
            run, meta_filter, of_body=phase == "body_filter", refuses=phase in REQUEST_PHASES, is_async=is_async
        )
    return Step(run, instance.plugin.name, instance.owner, is_async)


def _nothing(_ctx: Any) -> None:
    pass


def _with_error_response(run: Callable[..., Any], response: Any, is_async: bool) -> Callable[..., Any]:
    """A refusal's body becomes `_meta.error_response` (apisix/plugin.lua, run_plugin)."""

    def replaced(reply: Any) -> Any:
        return reply if reply is None or reply.status < 400 else reply.with_body(response)

    if is_async:

        async def awaited(ctx: Any) -> Any:
            return replaced(await run(ctx))

        return awaited
    return lambda ctx: replaced(run(ctx))


def _only_reading(run: Callable[..., Any], is_async: bool) -> Callable[..., Any]:
    """Let the piece pass as it came, whatever the method returns: the announced length still holds."""
    if is_async:

        async def awaited(ctx: Any, piece: bytes, is_last: bool) -> bytes:
            await run(ctx, piece, is_last)
            return piece

        return awaited

    def ran(ctx: Any, piece: bytes, is_last: bool) -> bytes:
        run(ctx, piece, is_last)
        return piece

    return ran
