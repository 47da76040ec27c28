"""What one camera is in ROS: an image subscription, two topics of results and four services, around one tracker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from taptrv2_core import PointError, Taptr
from taptrv2_ros.messages import fill_list, id_array, tracks_message
from taptrv2_ros.msg import PointTracks
from taptrv2_ros.parameters import Parameters
from taptrv2_ros.session import TrackingSession
from taptrv2_ros.srv import AddPoints, ClearPoints, ListPoints, RemovePoints
from taptrv2_ros.worker import Worker, WorkerStopped

RESULT_QUEUE = 10
_RELIABILITY = {
    "best_effort": QoSReliabilityPolicy.BEST_EFFORT,
    "reliable": QoSReliabilityPolicy.RELIABLE,
}
Response = TypeVar("Response", AddPoints.Response, RemovePoints.Response, ClearPoints.Response)


class Camera:
    """Callbacks only hand over: images to the worker's slot, requests to its queue. The worker does the rest."""

    def __init__(self, node: Node, model: Taptr, parameters: Parameters) -> None:
        self._logger = node.get_logger()
        self._topic = node.resolve_topic_name(parameters.wire_topic)
        self._session = TrackingSession(
            model, parameters.max_points, parameters.takeover_interval, self._topic, self._logger
        )
        self._worker: Worker[Image | CompressedImage] = Worker(self._process, "taptr worker")
        self._tracks = node.create_publisher(PointTracks, "~/tracks", RESULT_QUEUE)
        self._refined = node.create_publisher(PointTracks, "~/refined_tracks", RESULT_QUEUE)
        self._create_services(node)
        self._worker.start()
        self._subscribe(node, parameters)

    def stop(self, timeout: float = 5.0) -> None:
        """Finish the image in work, refuse waiting requests, and say how it went."""
        if not self._worker.stop(timeout):
            self._logger.warning(f"tracking did not end within {timeout:g} s")
        count = self._session.counters
        self._logger.info(
            f"'{self._topic}': {self._worker.received} images received, {count.tracked} tracked, "
            f"{self._worker.dropped} dropped, {count.refused} refused, {count.resets} resets"
        )

    def _subscribe(self, node: Node, parameters: Parameters) -> None:
        kind = CompressedImage if parameters.image_transport == "compressed" else Image
        qos = QoSProfile(depth=parameters.image_queue, reliability=_RELIABILITY[parameters.image_reliability])
        node.create_subscription(
            kind, parameters.wire_topic, self._worker.offer, qos, callback_group=MutuallyExclusiveCallbackGroup()
        )
        self._logger.info(
            f"waiting for {kind.__name__} on '{self._topic}' ({parameters.image_reliability}), "
            f"tracks on '{self._tracks.topic_name}'"
        )

    def _create_services(self, node: Node) -> None:
        # A group of their own: a request waits for the step in work, and images go on arriving meanwhile.
        group = MutuallyExclusiveCallbackGroup()
        for kind, name, callback in (
            (AddPoints, "~/add_points", self._on_add),
            (RemovePoints, "~/remove_points", self._on_remove),
            (ClearPoints, "~/clear_points", self._on_clear),
            (ListPoints, "~/list_points", self._on_list),
        ):
            node.create_service(kind, name, callback, callback_group=group)

    def _process(self, message: Image | CompressedImage) -> None:
        for result in self._session.track(message):
            publisher = self._refined if result.tracks.final else self._tracks
            size, resets = self._session.image_size, self._session.counters.resets
            publisher.publish(tracks_message(result.tracks, result.header, size, resets, self._worker.dropped))

    def _on_add(self, request: AddPoints.Request, response: AddPoints.Response) -> AddPoints.Response:
        def add() -> None:
            response.ids = id_array(self._session.add(request.x, request.y, request.image_stamp))

        return self._answer("add_points", add, response)

    def _on_remove(self, request: RemovePoints.Request, response: RemovePoints.Response) -> RemovePoints.Response:
        return self._answer("remove_points", lambda: self._session.remove(request.ids), response)

    def _on_clear(self, _: ClearPoints.Request, response: ClearPoints.Response) -> ClearPoints.Response:
        def clear() -> None:
            response.removed = self._session.clear()

        return self._answer("clear_points", clear, response)

    def _on_list(self, _: ListPoints.Request, response: ListPoints.Response) -> ListPoints.Response:
        try:
            queries, stamp = self._worker.call(self._session.list)
        except WorkerStopped:
            return response
        return fill_list(response, queries, stamp)

    def _answer(self, service: str, change: Callable[[], None], response: Response) -> Response:
        try:
            self._worker.call(change)
            response.success = True
        except (PointError, WorkerStopped) as error:
            response.message = str(error)
            self._logger.warning(f"{service} refused: {error}")
        return response
