"""The services that say which points are tracked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from taptrv2_core import PointError
from taptrv2_ros.messages import fill_list, float_array, id_array
from taptrv2_ros.part import CameraContext, CameraPart
from taptrv2_ros.qos import SERVICES
from taptrv2_ros.srv import AddPoints, AddRegion, ClearPoints, ListPoints, RemovePoints
from taptrv2_ros.worker import WorkerStopped

Response = TypeVar("Response", AddPoints.Response, AddRegion.Response, RemovePoints.Response, ClearPoints.Response)


class PointServices(CameraPart):
    """Callbacks only hand over: the worker grants a request between two images."""

    def __init__(self, context: CameraContext) -> None:
        super().__init__(context)
        self._points = context.session.points
        group = context.requests
        self._services = [
            context.node.create_service(kind, context.topic(name), callback, qos_profile=SERVICES, callback_group=group)
            for kind, name, callback in (
                (AddPoints, "add_points", self._on_add),
                (AddRegion, "add_region", self._on_region),
                (RemovePoints, "remove_points", self._on_remove),
                (ClearPoints, "clear_points", self._on_clear),
                (ListPoints, "list_points", self._on_list),
            )
        ]

    def close(self) -> None:
        for service in self._services:
            self.context.node.destroy_service(service)

    def _on_add(self, request: AddPoints.Request, response: AddPoints.Response) -> AddPoints.Response:
        def add() -> None:
            response.ids = id_array(self._points.add(request.x, request.y, request.image_stamp, request.group))

        return self._answer("add_points", add, response)

    def _on_region(self, request: AddRegion.Request, response: AddRegion.Response) -> AddRegion.Response:
        try:
            x, y = self._points.spread(request.x, request.y, request.count, request.spacing)
        except PointError as error:
            return self._answer("add_region", _refusal(error), response)

        def add() -> None:
            response.ids = id_array(self._points.add(x, y, request.image_stamp, request.group))
            response.points_x, response.points_y = float_array(x), float_array(y)

        return self._answer("add_region", add, response)

    def _on_remove(self, request: RemovePoints.Request, response: RemovePoints.Response) -> RemovePoints.Response:
        def remove() -> None:
            response.removed = self._points.remove(request.ids, request.group)

        return self._answer("remove_points", remove, response)

    def _on_clear(self, _: ClearPoints.Request, response: ClearPoints.Response) -> ClearPoints.Response:
        def clear() -> None:
            response.removed = self._points.clear()

        return self._answer("clear_points", clear, response)

    def _on_list(self, _: ListPoints.Request, response: ListPoints.Response) -> ListPoints.Response:
        def fill() -> None:
            fill_list(response, *self._points.tracked(), self._points.groups)

        with suppress(WorkerStopped):
            self.context.run(fill)
        return response

    def _answer(self, service: str, change: Callable[[], None], response: Response) -> Response:
        response.message = self.context.request(service, change)
        response.success = not response.message
        return response


def _refusal(error: PointError) -> Callable[[], None]:
    def refuse() -> None:
        raise error

    return refuse
