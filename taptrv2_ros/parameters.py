"""The node's parameters: one table says name, type, default, limits and meaning of each."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from typing import Any

from rcl_interfaces.msg import IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node


class ParameterError(ValueError):
    """A parameter has a value the node cannot start with; the message names it."""


def _parameter(
    default: Any,
    description: str,
    *,
    limits: tuple[int, int] | None = None,
    choices: tuple[str, ...] = (),
    read_only: bool = True,
) -> Any:
    meta = {"description": description, "limits": limits, "choices": choices, "read_only": read_only}
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Parameters:
    """Values the node starts with. Field names are parameter names; config/tracker.yaml has the same keys."""

    image_topic: str = _parameter(
        "camera/image_raw",
        "Topic of the camera's images. With image_transport compressed, '/compressed' is appended unless it ends so.",
    )
    image_transport: str = _parameter(
        "raw", "Kind of image message: sensor_msgs/Image or CompressedImage (JPEG, PNG).", choices=("raw", "compressed")
    )
    image_reliability: str = _parameter(
        "best_effort",
        "Reliability of the image subscription: best_effort receives from every publisher; reliable only from "
        "reliable ones, and asks for lost images again.",
        choices=("best_effort", "reliable"),
    )
    image_queue: int = _parameter(
        5,
        "Images the middleware holds until the node takes them. The node keeps the newest only, so a longer queue adds "
        "no delay; images it drops are counted.",
        limits=(1, 100),
    )
    weights: str = _parameter("small", "Weights of the network: a shipped name, or the path of a checkpoint file.")
    device: str = _parameter("auto", "Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1, ...")
    dtype: str = _parameter(
        "auto",
        "Number format of the network: float32, bfloat16, float16; auto: float16 on a GPU, bfloat16 on a CPU that has "
        "instructions for it, else float32.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    threads: int = _parameter(
        0, "CPU threads of the network; 0: as many as PyTorch takes by itself, one a core.", limits=(0, 256)
    )
    max_points: int = _parameter(1024, "Most points tracked at a time.", limits=(1, 100_000))
    takeover_interval: int = _parameter(
        1,
        "After how many committing windows (of 4 images each) a point's appearance is renewed from the newest images; "
        "larger follows slower changes and drifts less.",
        limits=(1, 10_000),
    )

    @property
    def wire_topic(self) -> str:
        """Name of the subscribed topic, before namespace and remapping."""
        if self.image_transport != "compressed" or self.image_topic.endswith("/compressed"):
            return self.image_topic
        return f"{self.image_topic}/compressed"


def declare(node: Node) -> Parameters:
    """Declare every parameter on the node and return the values it was started with.

    Raises ParameterError naming the parameter whose value is of a wrong type, outside its range, or no choice.
    """
    values: dict[str, Any] = {}
    for item in fields(Parameters):
        descriptor = _descriptor(item.metadata)
        try:
            values[item.name] = node.declare_parameter(item.name, item.default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ParameterError(f"parameter '{item.name}' must be {_expected(item)}: {error}") from error
        choices = item.metadata["choices"]
        if choices and values[item.name] not in choices:
            raise ParameterError(
                f"parameter '{item.name}' is '{values[item.name]}', which is none of {', '.join(choices)}"
            )
    if not values["image_topic"]:
        raise ParameterError("parameter 'image_topic' is empty; give the topic of the camera's images")
    return Parameters(**values)


def _expected(item: Field[Any]) -> str:
    kind = "an integer" if isinstance(item.default, int) else "a string"
    limits = item.metadata["limits"]
    return f"{kind} from {limits[0]} to {limits[1]}" if limits else kind


def _descriptor(meta: Any) -> ParameterDescriptor:
    choices = f"One of: {', '.join(meta['choices'])}." if meta["choices"] else ""
    descriptor = ParameterDescriptor(
        description=meta["description"], read_only=meta["read_only"], additional_constraints=choices
    )
    if meta["limits"]:
        low, high = meta["limits"]
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return descriptor
