"""The node's parameters: one table says name, type, default, limits and meaning of each, and when it may change."""

from __future__ import annotations

from dataclasses import Field, dataclass, field
from enum import Enum
from typing import Any

from taptrv2_core.stamps import MAX_GAP


class ParameterError(ValueError):
    """A parameter has a value the node cannot start with; the message names it."""


class Change(Enum):
    """When a parameter may be set while the node runs; the value completes "can be set only ..."."""

    ALWAYS = "at any time"
    INACTIVE = "while the node is not active: deactivate it first"
    UNCONFIGURED = "while the node is unconfigured: deactivate it and clean it up first"
    NEVER = "when the node starts"


INHERITED = "inherited"
"""As `_parameter`'s ``per_camera``: a named camera has, unless it is given its own, what the node has."""


def _parameter(
    default: Any,
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    change: Change = Change.UNCONFIGURED,
    per_camera: str | None = None,
) -> Any:
    """``per_camera``: each named camera has one of its own, ``<camera>.<name>``, with this default, in which
    ``{camera}`` stands for its name, or with the node's value (INHERITED)."""
    meta = {
        "description": description, "limits": limits, "choices": choices, "change": change, "per_camera": per_camera,
    }  # fmt: skip
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=meta)
    return field(default=default, metadata=meta)


@dataclass(frozen=True)
class Parameters:
    """Values the node works with, as one camera sees them. Field names are parameter names; config/tracker.yaml has
    the same keys."""

    autostart: bool = _parameter(
        True,
        "Configure and activate the node as it starts; false leaves that to a supervisor (lifecycle transitions).",
        change=Change.NEVER,
    )
    cameras: list[str] = _parameter(  # noqa: RUF009
        [""],
        "Names of the cameras. One empty name: a single camera whose topics and services carry no name of their own.",
        change=Change.NEVER,
    )
    image_topic: str = _parameter(
        "camera/image_raw",
        "Topic of the camera's images. With image_transport compressed, '/compressed' is appended unless it ends so.",
        change=Change.INACTIVE,
        per_camera="{camera}/image_raw",
    )
    image_transport: str = _parameter(
        "raw",
        "Kind of image message: sensor_msgs/Image or CompressedImage (JPEG, PNG).",
        choices=("raw", "compressed"),
        change=Change.INACTIVE,
    )
    image_reliability: str = _parameter(
        "best_effort",
        "Reliability of the image subscription: best_effort receives from every publisher; reliable only from "
        "reliable ones, and asks for lost images again.",
        choices=("best_effort", "reliable"),
        change=Change.INACTIVE,
    )
    image_queue: int = _parameter(
        5,
        "Images the middleware holds until the node takes them. The node keeps the newest only, so a longer queue adds "
        "no delay; images it drops are counted.",
        limits=(1, 100),
        change=Change.INACTIVE,
    )
    image_conversion: str = _parameter(
        "auto",
        "Who converts raw images: auto (cv_bridge where it is installed and gives the same pixels, else the node), own "
        "(the node).",
        choices=("auto", "own"),
    )
    result_reliability: str = _parameter(
        "reliable",
        "Reliability of the published tracks: reliable serves every subscriber; best_effort never sends twice.",
        choices=("best_effort", "reliable"),
    )
    result_queue: int = _parameter(10, "Tracks the middleware keeps for slow subscribers.", limits=(1, 1000))
    lazy: bool = _parameter(
        False,
        "Subscribe to images only while somebody subscribes to results; else no image is received and no work done.",
        change=Change.ALWAYS,
    )
    max_gap: float = _parameter(
        MAX_GAP,
        "Seconds between the stamps of two images after which they count as another scene: tracking starts anew. 0: "
        "no gap does. Stamps that go backwards always do.",
        limits=(0.0, 86400.0),
        change=Change.ALWAYS,
    )
    weights: str = _parameter("small", "Weights of the network: a shipped name, or the path of a checkpoint file.")
    device: str = _parameter("auto", "Where the network runs: auto (the GPU if there is one), cpu, cuda, cuda:1, ...")
    dtype: str = _parameter(
        "auto",
        "Number format of the network: float32, bfloat16, float16; auto: float16 on a GPU, bfloat16 on a CPU that has "
        "instructions for it, else float32.",
        choices=("auto", "float32", "bfloat16", "float16"),
    )
    input_size: int = _parameter(
        0,
        "Side in pixels of the square that images are reduced or enlarged to for the network; 0: the weights' own, 288 "
        "for small. Larger is more accurate where images have the detail, and slower.",
        limits=(0, 2048),
    )
    threads: int = _parameter(
        0, "CPU threads of the network; 0: as many as PyTorch takes by itself, one a core.", limits=(0, 256)
    )
    max_points: int = _parameter(
        1024, "Most points tracked at a time, for each camera.", limits=(1, 100_000), change=Change.ALWAYS
    )
    takeover_interval: int = _parameter(
        1,
        "After how many committing windows (of 4 images each) a point's appearance is renewed from the newest images; "
        "larger follows slower changes and drifts less.",
        limits=(1, 10_000),
    )
    references: list[str] = _parameter(  # noqa: RUF009
        [""],
        "Files of references (YAML, as teach writes them), whose points are looked for from the first image on, and "
        "again when tracking starts anew. An empty name is none.",
        per_camera=INHERITED,
    )
    target_points: int = _parameter(
        0,
        "Points the node keeps on corners by itself, beside those clients add, for visual odometry; 0: none.",
        limits=(0, 100_000),
        change=Change.ALWAYS,
    )
    min_distance: float = _parameter(
        0.0,
        "Pixels between a point the node adds and any other; 0: half the distance that spreads target_points evenly.",
        limits=(0.0, 10_000.0),
        change=Change.ALWAYS,
    )
    corner_quality: float = _parameter(
        0.01,
        "Least strength of corners for points the node adds, as a share of the strongest corner's.",
        limits=(0.0001, 0.9),
        change=Change.ALWAYS,
    )
    retire_time: float = _parameter(
        1.0,
        "Seconds after which a point the node added is given up if it stays hidden or outside the image.",
        limits=(0.0, 3600.0),
        change=Change.ALWAYS,
    )
    depth_topic: str = _parameter(
        "",
        "Topic of depth images registered to the camera's images, for points in space; empty: none. A topic that ends "
        "with /compressedDepth is received as such.",
        change=Change.INACTIVE,
        per_camera="",
    )
    camera_info_topic: str = _parameter(
        "",
        "Topic of the camera's calibration, for points in space; empty: camera_info beside the image topic.",
        change=Change.INACTIVE,
        per_camera="",
    )
    depth_tolerance: float = _parameter(
        0.02,
        "Seconds by which the stamps of an image and its depth may differ.",
        limits=(0.0, 10.0),
        change=Change.INACTIVE,
    )
    image_rectified: bool = _parameter(
        False,
        "The images are rectified (image_proc's image_rect): P of camera_info describes them, without distortion.",
        change=Change.ALWAYS,
    )

    @property
    def info_topic(self) -> str:
        """Name of the calibration's topic, before namespace and remapping."""
        folder = self.image_topic.removesuffix("/compressed").rpartition("/")
        return self.camera_info_topic or f"{folder[0]}{folder[1]}camera_info"

    @property
    def wire_topic(self) -> str:
        """Name of the subscribed topic, before namespace and remapping."""
        if self.image_transport != "compressed" or self.image_topic.endswith("/compressed"):
            return self.image_topic
        return f"{self.image_topic}/compressed"


def default_of(item: Field[Any]) -> Any:
    """A parameter's default."""
    return item.default_factory() if callable(item.default_factory) else item.default  # type: ignore[misc]


def type_of(item: Field[Any]) -> str:
    """A parameter's type in words."""
    names = {"bool": "true or false", "int": "an integer", "float": "a number with a decimal point", "str": "a string"}
    return names.get(str(item.type), "a list of strings")


def expectation(item: Field[Any]) -> str:
    """Which values a parameter takes, for messages."""
    limits, choices = item.metadata["limits"], item.metadata["choices"]
    if limits:
        return f"{type_of(item)} from {limits[0]} to {limits[1]}"
    return f"one of {', '.join(choices)}" if choices else type_of(item)
