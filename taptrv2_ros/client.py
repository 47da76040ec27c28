"""A program that asks a running tracker: its own ROS node, spun in a thread, and services that do answer."""

from __future__ import annotations

import argparse
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from taptrv2_core.errors import MissingPackageError, QueryError
from taptrv2_ros.first_contact import FirstContact

ANSWER = 5.0
"""Seconds a service may take."""
PATIENCE = 10.0
"""Seconds until a program that has just begun knows what there is in the ROS graph, on a busy machine too."""


class ClientError(Exception):
    """The node does not answer, or refuses; the message says what to do."""


@contextlib.contextmanager
def client_node(name: str, args: Sequence[str] | None) -> Iterator[Node]:
    """A node of this program's own; ``args`` of the command line, None: its own. Ctrl-C is left to the caller."""
    rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(name)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=_spin, args=(executor,), name=f"{name} executor", daemon=True)
    thread.start()
    try:
        yield node
    finally:
        executor.shutdown(timeout_sec=5.0)
        thread.join(5.0)
        node.destroy_node()
        rclpy.shutdown()


def exit_status(program: str, action: Callable[[], None]) -> int:
    """Of a command: 0 done; with one line on stderr 1 for the node's faults, 2 for those of files, 130 for Ctrl-C."""
    try:
        action()
    except (ClientError, MissingPackageError, QueryError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2 if isinstance(error, QueryError) else 1
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130
    return 0


def add_tracker_options(parser: argparse.ArgumentParser) -> None:
    """Those that say which camera of which node is meant, for `tracker_name`."""
    parser.add_argument("--node", default="/taptr", help="the node's name (default %(default)s)")
    parser.add_argument("--camera", default="", help="of several, the one that is meant")


def tracker_name(node: str, camera: str) -> str:
    """What the topics and services of a camera begin with: ``/taptr``, or ``/taptr/front`` of a named one."""
    return "/".join(["", *filter(None, [*node.split("/"), camera])])


class Services:
    """Of a running node, called from any thread but the one that spins."""

    def __init__(self, node: Node, kinds: Mapping[type, str], harmless: type) -> None:
        """``kinds`` with their names; an empty request of the ``harmless`` one changes nothing."""
        names = sorted(kinds.items(), key=lambda item: item[0] is harmless)  # which has to be made last
        self._clients = {kind: node.create_client(kind, name) for kind, name in names}
        self._harmless = self._clients[harmless]
        self._contact = FirstContact(self._harmless)

    def meet(self) -> None:
        """Make sure that answers will come, without waiting."""
        self._contact.made()

    def ready(self) -> bool:
        """Whether all of them have been seen."""
        return all(client.service_is_ready() for client in self._clients.values())

    def call(self, kind: type, request: Any, patience: float = 0.0) -> Any:
        """The answer; raises ClientError where none comes, or the service is not there in so many seconds."""
        client = self._clients[kind]
        if not wait(client.service_is_ready, patience):
            raise ClientError(f"{client.srv_name} is not there: is the node running and configured?")
        if not wait(self._contact.made, ANSWER):
            raise ClientError(f"{self._harmless.srv_name} did not answer within {ANSWER:g} s")
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(ANSWER):
            client.remove_pending_request(future)
            self._contact = FirstContact(self._harmless)  # the node may be another one by now, or configured anew
            raise ClientError(f"{client.srv_name} did not answer within {ANSWER:g} s")
        return future.result()


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it is true, or becomes so in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _spin(executor: SingleThreadedExecutor) -> None:
    with contextlib.suppress(ExternalShutdownException):
        executor.spin()
