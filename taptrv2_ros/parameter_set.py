"""The table of parameters declared on a node: values as each camera sees them, and changes while the node runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import Field, fields
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from taptrv2_ros.parameters import INHERITED, Change, ParameterError, Parameters, default_of, expectation

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TABLE = {item.name: item for item in fields(Parameters)}


class ParameterSet:
    """All parameters of a node, declared on construction.

    Raises ParameterError naming the parameter whose value is of a wrong type, outside its range, or no choice.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._items: dict[str, Field[Any]] = {}
        self._values: dict[str, Any] = {}
        for name, item in _TABLE.items():
            self._declare(name, item, default_of(item))
        self.cameras = _camera_names(self._values["cameras"])
        for camera in filter(None, self.cameras):
            for name, item in _TABLE.items():
                if item.metadata["per_camera"] is not None:
                    own = item.metadata["per_camera"]
                    default = self._values[name] if own == INHERITED else own.format(camera=camera)
                    self._declare(f"{camera}.{name}", item, default)

    @property
    def shared(self) -> Parameters:
        """Values that concern the whole node."""
        return self.of("")

    def of(self, camera: str) -> Parameters:
        """Values as a camera sees them, its own where it has some."""
        return Parameters(**{name: self._values.get(f"{camera}.{name}", self._values[name]) for name in _TABLE})

    def change(self, changes: Sequence[Parameter], allowed: set[Change]) -> str:
        """Take over new values of parameters; returns why not, naming the parameter, and then none is taken over."""
        new = {}
        for parameter in changes:
            item = self._items.get(parameter.name)
            if item is None:  # use_sim_time and others that rclpy looks after
                continue
            when = item.metadata["change"]
            if parameter.value != self._values[parameter.name] and when not in allowed:
                return f"parameter '{parameter.name}' can be set only {when.value}"
            problem = self._problem(parameter.name, item, parameter.value)
            if problem:
                return problem
            new[parameter.name] = parameter.value
        self._values.update(new)
        return ""

    def _declare(self, name: str, item: Field[Any], default: Any) -> None:
        try:
            value = self._node.declare_parameter(name, default, _descriptor(item)).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ParameterError(f"parameter '{name}' must be {expectation(item)}: {error}") from error
        problem = self._problem(name, item, value)
        if problem:
            raise ParameterError(problem)
        self._items[name], self._values[name] = item, value

    def _problem(self, name: str, item: Field[Any], value: Any) -> str:
        """What rclpy does not check: choices, and names of topics."""
        choices = item.metadata["choices"]
        if choices and value not in choices:
            return f"parameter '{name}' is '{value}', which is none of {', '.join(choices)}"
        if item.name == "image_topic" and not value:
            return f"parameter '{name}' is empty; give the topic of the camera's images"
        if item.metadata["per_camera"] not in (None, INHERITED) and value:  # topics, and only they
            try:
                self._node.resolve_topic_name(value)
            except Exception as error:  # of the C library, which one differs between versions
                return f"parameter '{name}' is '{value}', which is no topic name: {str(error).split(', at ')[0]}"
        return ""


def _camera_names(names: Sequence[str]) -> tuple[str, ...]:
    """The cameras by name; raises ParameterError where they cannot be told apart or named in topics."""
    if not names or list(names) == [""]:
        return ("",)
    for name in names:
        if not _NAME.fullmatch(name) or name in _TABLE:
            why = "is the name of a parameter" if name in _TABLE else "is not made of letters, digits and _"
            raise ParameterError(f"parameter 'cameras' is {list(names)}: '{name}' {why}")
    if len(set(names)) < len(names):
        raise ParameterError(f"parameter 'cameras' is {list(names)}: a name comes twice")
    return tuple(names)


def _descriptor(item: Field[Any]) -> ParameterDescriptor:
    meta = item.metadata
    constraints = [f"One of: {', '.join(meta['choices'])}."] if meta["choices"] else []
    if meta["change"] is not Change.ALWAYS:
        constraints.append(f"Can be set only {meta['change'].value}.")
    descriptor = ParameterDescriptor(
        description=meta["description"],
        read_only=meta["change"] is Change.NEVER,
        additional_constraints=" ".join(constraints),
    )
    if meta["limits"]:
        low, high = meta["limits"]
        if isinstance(item.default, float):
            descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
        else:
            descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return descriptor
