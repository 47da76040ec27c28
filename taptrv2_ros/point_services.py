"""The services that say which points are tracked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from taptrv2_ros.messages import fill_list, id_array
from taptrv2_ros.part import CameraContext, CameraPart
from taptrv2_ros.srv import AddPoints, ClearPoints, ListPoints, RemovePoints
from taptrv2_ros.worker import WorkerStopped

Response = TypeVar("Response", AddPoints.Response, RemovePoints.Response, ClearPoints.Response)


class PointServices(CameraPart):
    """Callbacks only hand over: the worker grants a request between two images."""

    def __init__(self, context: CameraContext) -> None:
        super().__init__(context)
        self._services = [
            context.node.create_service(kind, context.topic(name), callback, callback_group=context.requests)
            for kind, name, callback in (
                (AddPoints, "add_points", self._on_add),
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
            response.ids = id_array(self.context.session.add(request.x, request.y, request.image_stamp))

        return self._answer("add_points", add, response)

    def _on_remove(self, request: RemovePoints.Request, response: RemovePoints.Response) -> RemovePoints.Response:
        return self._answer("remove_points", lambda: self.context.session.remove(request.ids), response)

    def _on_clear(self, _: ClearPoints.Request, response: ClearPoints.Response) -> ClearPoints.Response:
        def clear() -> None:
            response.removed = self.context.session.clear()

        return self._answer("clear_points", clear, response)

    def _on_list(self, _: ListPoints.Request, response: ListPoints.Response) -> ListPoints.Response:
        try:
            queries, stamp = self.context.run(self.context.session.list)
        except WorkerStopped:
            return response
        return fill_list(response, queries, stamp)

    def _answer(self, service: str, change: Callable[[], None], response: Response) -> Response:
        response.message = self.context.request(service, change)
        response.success = not response.message
        return response
