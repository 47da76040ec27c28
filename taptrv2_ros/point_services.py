"""The services that say which points are tracked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from taptrv2_core import PointError
from taptrv2_core.encodings import RgbImage
from taptrv2_ros.conversions import to_rgb
from taptrv2_ros.messages import fill_list, float_array, id_array
from taptrv2_ros.part import CameraContext, CameraPart
from taptrv2_ros.qos import SERVICES
from taptrv2_ros.srv import AddPoints, AddReference, AddRegion, ClearPoints, ListPoints, RemovePoints

Response = TypeVar(
    "Response",
    AddPoints.Response,
    AddRegion.Response,
    AddReference.Response,
    RemovePoints.Response,
    ClearPoints.Response,
)


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
                (AddReference, "add_reference", self._on_reference),
                (RemovePoints, "remove_points", self._on_remove),
                (ClearPoints, "clear_points", self._on_clear),
                (ListPoints, "list_points", self._on_list),
            )
        ]

    def close(self) -> None:
        for service in self._services:
            self._refuse_waiting(service)
            self.context.node.destroy_service(service)

    def _refuse_waiting(self, service: Any) -> None:
        """Answer the requests that are still in the service's queue: no executor takes them any more."""
        with service.handle:
            while (taken := service.handle.service_take_request(service.srv_type.Request))[1] is not None:
                request, header = taken
                service.send_response(service.callback(request, service.srv_type.Response()), header)

    def _on_add(self, request: AddPoints.Request, response: AddPoints.Response) -> AddPoints.Response:
        def add() -> None:
            ids = self.context.run(lambda: self._points.add(request.x, request.y, request.image_stamp, request.group))
            response.ids = id_array(ids)

        return self._answer("add_points", add, response)

    def _on_region(self, request: AddRegion.Request, response: AddRegion.Response) -> AddRegion.Response:
        def add() -> None:
            x, y = self._points.spread(request.x, request.y, request.count, request.spacing)
            ids = self.context.run(lambda: self._points.add(x, y, request.image_stamp, request.group))
            response.ids, response.points_x, response.points_y = id_array(ids), float_array(x), float_array(y)

        return self._answer("add_region", add, response)

    def _on_reference(self, request: AddReference.Request, response: AddReference.Response) -> AddReference.Response:
        def add() -> None:
            picture = _picture(request)
            ids = self.context.run(lambda: self._points.add_reference(picture, request.x, request.y, request.group))
            response.ids = id_array(ids)

        return self._answer("add_reference", add, response)

    def _on_remove(self, request: RemovePoints.Request, response: RemovePoints.Response) -> RemovePoints.Response:
        def remove() -> None:
            response.removed = self.context.run(lambda: self._points.remove(request.ids, request.group))

        return self._answer("remove_points", remove, response)

    def _on_clear(self, _: ClearPoints.Request, response: ClearPoints.Response) -> ClearPoints.Response:
        def clear() -> None:
            response.removed = self.context.run(self._points.clear)

        return self._answer("clear_points", clear, response)

    def _on_list(self, _: ListPoints.Request, response: ListPoints.Response) -> ListPoints.Response:
        def fill() -> None:
            fill_list(response, *self._points.tracked(), self._points.groups)

        self.context.request("list_points", lambda: self.context.run(fill))
        return response

    def _answer(self, service: str, change: Callable[[], None], response: Response) -> Response:
        response.message = self.context.request(service, change)
        response.success = not response.message
        return response


def _picture(request: AddReference.Request) -> RgbImage:
    """The one that was sent."""
    given = [message for message in (request.image, request.compressed) if len(message.data)]
    if len(given) != 1:
        raise PointError(f"{len(given)} pictures came: send one, either image or compressed, and leave the other empty")
    return to_rgb(given[0])
