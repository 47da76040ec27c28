"""The lifecycle node ``taptr``: what its transitions do, and which parameters may change in which state."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from taptrv2_core import CheckpointError, Taptr, Tracker, load_model
from taptrv2_core.fast.allocator import release_freed_memory
from taptrv2_ros.diagnostics import Diagnostics
from taptrv2_ros.parameter_set import ParameterSet
from taptrv2_ros.parameters import Change, Parameters
from taptrv2_ros.steady_clock import steady_clock
from taptrv2_ros.tracking import Tracking

NAME = "taptr"
_WARM_UP = 5.0  # seconds at most
_FORESEEN = (CheckpointError, ValueError, OSError)  # whose message is enough; others are logged with a traceback


class TrackerNode(LifecycleNode):
    """Unconfigured: parameters only. Inactive: the network is loaded, services answer. Active: images are tracked.

    Raises ParameterError when a parameter has a value it cannot start with.
    """

    def __init__(self) -> None:
        super().__init__(NAME)
        self.problem = ""
        """Why the last transition failed; empty if it did not."""
        self.model: Taptr | None = None
        self.tracking: Tracking | None = None
        self._active = False
        self._own_threads = torch.get_num_threads()
        self.parameters_now = ParameterSet(self)
        self.add_on_set_parameters_callback(self._on_set)
        self._diagnostics = Diagnostics(self)
        self._guard_transitions()
        if self.parameters_now.shared.autostart:
            # Once it spins, in the group of the transition services, so that nobody's transition runs beside it.
            self._autostart = self.create_timer(0.0, self._start, clock=steady_clock())
        else:
            self.get_logger().info("autostart is false: unconfigured until a supervisor configures and activates it")

    @property
    def state(self) -> str:
        """unconfigured, inactive or active."""
        return "unconfigured" if self.tracking is None else "active" if self._active else "inactive"

    def stop(self) -> None:
        """End tracking; call it before the context is shut down, when nothing spins any more."""
        self._release()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the network, warm it up, and offer topics and services."""
        return self._attempt("configure", self._configure, self._release, TransitionCallbackReturn.FAILURE)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to receive images."""
        return self._attempt("activate", self._activate, self._deactivate, TransitionCallbackReturn.FAILURE)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Receive no images any more; points and services stay."""
        return self._attempt("deactivate", self._deactivate, lambda: None, TransitionCallbackReturn.ERROR)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the network's memory; topics and services go."""
        return self._attempt("clean up", self._release, lambda: None, TransitionCallbackReturn.ERROR)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The same from any state, for good."""
        return self._attempt("shut down", self._release, lambda: None, TransitionCallbackReturn.ERROR)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition failed half way: back to unconfigured."""
        return self._attempt("recover", self._release, lambda: None, TransitionCallbackReturn.FAILURE)

    def _attempt(
        self, what: str, action: Callable[[], None], undo: Callable[[], None], failed: TransitionCallbackReturn
    ) -> TransitionCallbackReturn:
        """rclpy swallows what a transition raises: report it here, and undo what was half done."""
        try:
            action()
        except Exception as error:
            detail = str(error) if isinstance(error, _FORESEEN) else traceback.format_exc()
            self.problem = f"cannot {what}: {error}"
            self.get_logger().error(f"cannot {what}: {detail}")
            undo()
            return failed
        if what != "recover":
            self.problem = ""
        return TransitionCallbackReturn.SUCCESS

    def _guard_transitions(self) -> None:
        """A transition asked for by its number, in a state that has none of that number, raises in rclpy and would end
        the executor; refuse it instead, as those asked for by name are."""
        service = self._service_change_state
        change = service.callback

        def guarded(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
            try:
                return change(request, response)
            except Exception as error:
                self.get_logger().warning(f"transition {request.transition.id} refused in state {self.state}: {error}")
                response.success = False
                return response

        service.callback = guarded

    def _start(self) -> None:
        self.destroy_timer(self._autostart)
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _configure(self) -> None:
        parameters = self.parameters_now.shared
        threads = parameters.threads or self._own_threads
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)
        # In a thread that ends: torch keeps buffers for every thread it ran in, and the executor has several.
        with ThreadPoolExecutor(1) as own:
            self.model = own.submit(self._load, parameters).result()
            own.submit(_warm_up, self.model).result()
        self.tracking = Tracking(self, self.model, self.parameters_now)

    def _activate(self) -> None:
        assert self.tracking is not None
        self._active = True
        self.tracking.activate()

    def _deactivate(self) -> None:
        self._active = False
        if self.tracking is not None:
            self.tracking.deactivate()

    def _release(self) -> None:
        if self._active:
            self._deactivate()
        tracking, self.tracking, self.model = self.tracking, None, None
        if tracking is not None:
            tracking.close()
        del tracking
        release_freed_memory()

    def _load(self, parameters: Parameters) -> Taptr:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            side = parameters.input_size
            size = (side, side) if side else None
            model = load_model(parameters.weights, parameters.device, size, parameters.dtype)
        for warning in caught:
            self.get_logger().warning(str(warning.message))
        height, width = model.config.input_size
        where = f"{model.device} in {model.dtype}".replace("torch.", "")
        self.get_logger().info(f"weights '{parameters.weights}' on {where}, network input {width}x{height}")
        return model

    def _on_set(self, changes: list[Parameter]) -> SetParametersResult:
        allowed = {Change.ALWAYS}
        if self.state != "active":
            allowed.add(Change.INACTIVE)
        if self.state == "unconfigured":
            allowed.add(Change.UNCONFIGURED)
        reason = self.parameters_now.change(changes, allowed)
        if not reason and self.tracking is not None:
            self.tracking.apply(self.parameters_now)
        return SetParametersResult(successful=not reason, reason=reason)


def _warm_up(model: Taptr) -> None:
    """Track a point through black images until a window has committed: first calls cost much more than later ones."""
    tracker = Tracker(model)
    tracker.add_points([(1.0, 1.0)])
    image = np.zeros((*model.config.input_size, 3), dtype=np.uint8)
    deadline = time.monotonic() + _WARM_UP
    while not tracker.step(image).refined and time.monotonic() < deadline:
        pass
