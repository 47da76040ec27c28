"""The node's two executors: images are taken in a thread of their own, everything else in a pool's threads.

A `MultiThreadedExecutor` builds a wait set of all the node's entities three times for each message it hands to a
thread of its pool; for an image that costs more than taking it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import Executor, MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.node import Node

# Lifecycle and parameters, requests about points, depth, diagnostics: one may wait in each.
_THREADS = 4


class ImageGroup(MutuallyExclusiveCallbackGroup):
    """Callback group of what a camera sends; callbacks must return at once."""


class RequestGroup(MutuallyExclusiveCallbackGroup):
    """Callback group of services and others who change what is tracked, one after the other until it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._closed = self._running = False

    def close(self, timeout: float) -> bool:
        """Let no callback begin any more; true if the one that runs, its answer included, ends in so many seconds."""
        with self._changed:
            self._closed = True
            return self._changed.wait_for(lambda: not self._running, timeout)

    def can_execute(self, entity: Any) -> bool:
        """Unless it is closed."""
        return not self._closed and super().can_execute(entity)

    def beginning_execution(self, entity: Any) -> bool:
        """Unless it is closed."""
        with self._changed:
            begun = not self._closed and super().beginning_execution(entity)
            self._running |= begun
        return begun

    def ending_execution(self, entity: Any) -> None:
        """The answer is out."""
        with self._changed:
            super().ending_execution(entity)
            self._running = False
            self._changed.notify_all()


class _ImageExecutor(SingleThreadedExecutor):
    """Runs the callbacks of `ImageGroup` in the thread that spins it."""

    def __init__(self, node: Node) -> None:
        super().__init__(context=node.context)
        self._node = node

    def get_nodes(self) -> list[Node]:
        """The node, which belongs to the other executor: a node can be added to one only."""
        return [self._node]

    def can_execute(self, entity: Any) -> bool:
        """Those of images."""
        return isinstance(entity.callback_group, ImageGroup) and super().can_execute(entity)


class _OtherExecutor(MultiThreadedExecutor):
    """Runs all other callbacks, and passes on what the node tells its executor."""

    def __init__(self, node: Node, images: _ImageExecutor) -> None:
        super().__init__(_THREADS, context=node.context)
        self._images = images
        self.add_node(node)

    def can_execute(self, entity: Any) -> bool:
        """Those that are not of images."""
        return not isinstance(entity.callback_group, ImageGroup) and super().can_execute(entity)

    def shutdown(self, *arguments: Any, **options: Any) -> bool:
        """As rclpy's, but wait for the callbacks that run and use the node: rclpy 7 means to, and does not."""
        done = super().shutdown(*arguments, **options)
        self._executor.shutdown()
        return done

    def wake(self) -> None:
        """Subscriptions, services or timers came or went, in either executor."""
        super().wake()
        self._images.wake()


def make_executors(node: Node) -> tuple[Executor, Executor]:
    """Executors that share the node's callbacks; spin each in a thread, and shut both down."""
    images = _ImageExecutor(node)
    return images, _OtherExecutor(node, images)


@contextmanager
def spinning(node: Node) -> Iterator[None]:
    """The node's callbacks are run while the context is open. For programs that own no other node."""
    executors = make_executors(node)
    threads = [threading.Thread(target=executor.spin, daemon=True) for executor in executors]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for executor in executors:
            executor.shutdown(timeout_sec=5.0)
        for thread in threads:
            thread.join(5.0)
