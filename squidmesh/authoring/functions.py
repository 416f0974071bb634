"""The live side of a step: its function, and how it is called with what a run has.

Graphs live in the database, functions only here. A ``StepFunction`` is what a declaration returns, so it is also the
plain function for whoever calls it, and a reference to the step in further declarations.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, Generic, NoReturn, ParamSpec, TypeVar

from squidmesh.authoring.reading import StepReference
from squidmesh.definition import Options, Parameter
from squidmesh.errors import InvalidInput
from squidmesh.values.misfit import Misfit, Problem, label
from squidmesh.values.shapes import ANY

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from squidmesh.authoring.signature import Signature
    from squidmesh.context import Context
    from squidmesh.records import JSON, JSONObject

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_ABSENT: Final = object()


class StepFunction(StepReference, Generic[P, R_co]):
    """A declared step that has a function. Calling it calls the function, with its types, and nothing else.

    Args:
        name: The step's name.
        workflow: The workflow's name.
        function: What the author wrote.
        signature: What was read from it.
        options: What live code decides about the step.
    """

    __name__: str
    __qualname__: str

    def __init__(
        self,
        name: str,
        workflow: str,
        function: Callable[P, R_co],
        signature: Signature,
        options: Options = Options(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(name, workflow)
        self.function = function
        self.signature = signature
        self.options = options
        self.retry = options.retry
        self.transaction = options.transaction
        self.timeout = options.timeout
        self.is_async = signature.is_async
        """Whether ``call`` gives an awaitable."""
        self.takes = tuple(Parameter(slot.name, slot.required) for slot in signature.slots)
        self.takes_all = signature.rest is not None
        self.compensation: StepFunction[..., object] | None = None
        """What undoes it."""
        self.label = name
        """What a compensation is called in the graph."""
        self.context_parameter = signature.context
        self.call: Callable[..., object] = function
        """The function itself: called with what ``bind`` gave."""
        # What is any JSON value needs no reading: an absent ``plain`` would send it through the slow path.
        self._slots = [(slot.name, slot.shape.plain, slot.shape is ANY, slot) for slot in signature.slots]
        self._named = {*(slot.name for slot in signature.slots), signature.context, *signature.bound}
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function, as if it were no step."""
        return self.function(*args, **kwargs)

    def bind(self, state: Mapping[str, JSON], context: Callable[[], Context]) -> dict[str, object]:
        """The arguments to call the function with. Values may be the very objects in ``state``.

        Args:
            state: The payload overlaid with what earlier steps returned.
            context: Makes what a parameter annotated ``Context`` receives; most functions have none.

        Raises:
            InvalidInput: Keys are missing or do not fit; with all of them.
        """
        arguments: dict[str, object] = {}
        missing: list[str] = []
        problems: list[Problem] = []
        for name, plain, any_fits, slot in self._slots:
            value = state.get(name, _ABSENT)
            if value is _ABSENT:
                if slot.required:
                    missing.append(name)
            elif any_fits or type(value) is plain:
                arguments[name] = value
            else:
                try:
                    arguments[name] = slot.shape.load(value, name, lenient=True)
                except Misfit as misfit:
                    problems += misfit.problems
        if self.takes_all:
            problems += self._bind_rest(state, arguments)
        if missing or problems:
            self._refuse(missing, problems, state, context().payload)
        if self.context_parameter is not None:
            arguments[self.context_parameter] = context()
        return arguments

    def _bind_rest(self, state: Mapping[str, JSON], arguments: dict[str, object]) -> list[Problem]:
        """Fill ``**state`` with the keys that no parameter of their name takes."""
        shape = self.signature.rest
        assert shape is not None  # noqa: S101 - for the type checker
        problems: list[Problem] = []
        for name, value in state.items():
            if name in self._named:
                continue
            try:
                arguments[name] = value if shape is ANY else shape.load(value, name, lenient=True)
            except Misfit as misfit:
                problems += misfit.problems
        return problems

    def _refuse(
        self, missing: list[str], problems: list[Problem], state: Mapping[str, JSON], payload: Mapping[str, JSON]
    ) -> NoReturn:
        returned = [key for key in state if key not in payload]
        said = [f"{name!r} is missing" for name in missing]
        said += [f"{path!r} {text}" for path, text in problems]
        details: JSONObject = {
            "step": self.name,
            "missing_keys": missing,
            "invalid_keys": dict(problems),
            "payload_keys": list(payload),
            "returned_keys": returned,
        }
        raise InvalidInput(
            f"step {self.name!r} cannot be run with what is there: {'; '.join(said)}. "
            f"The payload has: {_labels(payload)}. Steps that ran returned: {_labels(returned)}",
            details=details,
            retryable=False,
        )


def _labels(keys: Mapping[str, JSON] | list[str]) -> str:
    return ", ".join(map(label, keys)) or "nothing"
