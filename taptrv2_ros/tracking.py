"""From the newest images of all cameras to their results: one network, one worker, a session a camera."""

from __future__ import annotations

import time
from dataclasses import replace

from rclpy.node import Node

from taptrv2_core import Taptr, encode_images
from taptrv2_ros.camera import Camera
from taptrv2_ros.executors import ImageGroup, RequestGroup
from taptrv2_ros.image_bridge import ImageConverter, find_bridge
from taptrv2_ros.parameter_set import ParameterSet
from taptrv2_ros.parameters import Parameters
from taptrv2_ros.part import CameraContext
from taptrv2_ros.session import Received, TrackingSession
from taptrv2_ros.taught import look_for_files
from taptrv2_ros.worker import Worker

_ANSWER = 10.0  # seconds until a request is answered; a hundred thousand points in a region take some
_STOP = 30.0  # seconds; a large network on a CPU takes some for one image


class Tracking:
    """Exists from configure to clean-up: the cameras, and the thread in which all of them are tracked."""

    def __init__(self, node: Node, model: Taptr, parameters: ParameterSet) -> None:
        self._node, self._model = node, model
        self._worker: Worker[Camera, Received] = Worker(self._process, "taptr worker", node.get_logger().error)
        # Two groups: a request waits for the step in work, and images go on arriving meanwhile.
        self._images, self._requests = ImageGroup(), RequestGroup()
        self.cameras: list[Camera] = []
        self._to_rgb = _converter(node, parameters.shared.image_conversion)
        self._worker.start()
        try:
            for name in parameters.cameras:
                self.cameras.append(self._camera(name, parameters))
        except BaseException:
            self.close()
            raise

    def activate(self) -> None:
        """Begin to receive images."""
        for camera in self.cameras:
            camera.activate()

    def deactivate(self) -> None:
        """Receive no images any more; what is in work is finished first."""
        for camera in self.cameras:
            camera.deactivate()

    def apply(self, parameters: ParameterSet) -> None:
        """Work with other parameters from now on."""
        for camera in self.cameras:
            camera.apply(self._parameters_of(camera.context.name, parameters))

    def close(self) -> None:
        """End the worker, refuse requests that wait, take everything out of ROS, free the memory."""
        ended = self._worker.stop(_STOP)
        if not ended:
            self._node.get_logger().warning(f"tracking did not end within {_STOP:g} s")
        if not self._requests.close(_ANSWER):
            self._node.get_logger().warning(f"a request was not answered within {_ANSWER:g} s")
        for camera in self.cameras:
            camera.close()
            if ended:
                # Each of ROS's executors holds the callback it ran last, and so this camera, until it runs another.
                camera.context.session.close()
        self.cameras = []
        if ended:
            del self._model

    def _camera(self, name: str, parameters: ParameterSet) -> Camera:
        own = self._parameters_of(name, parameters)
        session = TrackingSession(
            self._model,
            own.max_points,
            own.takeover_interval,
            self._node.resolve_topic_name(own.wire_topic),
            self._node.get_logger(),
        )
        look_for_files(session.points, own.references)
        context = CameraContext(self._node, name, own, session, self._worker, self._images, self._requests)
        camera = Camera(context)
        session.on_reset, session.on_limit, session.to_rgb = camera.on_reset, camera.on_limit, self._to_rgb
        return camera

    def _parameters_of(self, camera: str, parameters: ParameterSet) -> Parameters:
        """With the images' topic as remapped: what is named after it (compressed, camera_info, clicks) goes with it."""
        own = parameters.of(camera)
        return replace(own, image_topic=self._node.resolve_topic_name(own.image_topic))

    def _process(self, batch: dict[Camera, Received]) -> None:
        """Images that are there together are encoded together, then each camera's points are followed."""
        begun = time.monotonic()
        prepared = [(camera, camera.prepare(received)) for camera, received in batch.items()]
        frames = [(camera, frame) for camera, frame in prepared if frame is not None]
        try:
            encoded = encode_images(self._model, [frame.rgb for _, frame in frames])
        except Exception as error:
            for camera, _ in frames:
                camera.context.session.lose(error)
            return
        for (camera, frame), image in zip(frames, encoded, strict=True):
            camera.track(frame, image, begun)


def _converter(node: Node, choice: str) -> ImageConverter:
    bridge, text = find_bridge() if choice == "auto" else (None, "image_conversion is own")
    how = f"by {text}, else by the node itself" if bridge else f"by the node itself ({text})"
    node.get_logger().info(f"images are converted {how}")
    return ImageConverter(bridge, node.get_logger())
