"""The page's server: files and one WebSocket, on the loopback alone.

Text messages are JSON, with a ``type``. To the page: ``about``, ``error``; a scene is binary: the length of its header
(4 bytes, little-endian), the header as JSON, the JPEG. From the page: ``ready`` (send the next scene), ``add``,
``remove``, ``clear``, ``play``, ``seek``, ``done``. A page that is slow gets fewer scenes; it never gets old ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import signal
import struct
from pathlib import Path
from typing import Any

from taptrv2_core.demos.click.stage import ClickError, Scene, Stage
from taptrv2_core.errors import RecordingError
from taptrv2_core.extras import optional

PORT = 8642
_HOST = "127.0.0.1"
_PAGE = Path(__file__).parent / "page"
_FILES = {"/": "index.html", "/page.css": "page.css", "/page.js": "page.js"}
_WAIT = 0.5  # seconds
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'",
    "Cache-Control": "no-store",
}


def serve(stage: Stage, port: int = PORT) -> bool:
    """Serve the page until it says "done" (returns true) or Ctrl-C or SIGTERM comes (false).

    Raises:
        OSError: the port is in use.
        MissingPackageError: aiohttp is not installed.
    """
    optional("aiohttp", "aiohttp", "the page in the browser")
    return asyncio.run(_Server(stage).run(port))


class _Server:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._web: Any = optional("aiohttp.web", "aiohttp", "the page in the browser")
        self._over = asyncio.Event()
        self._done = False
        self._hosts: tuple[str, ...] = ()

    async def run(self, port: int) -> bool:
        app = self._web.Application(middlewares=[self._local_only()])
        app.router.add_get("/socket", self._connection)
        for path, file in _FILES.items():  # one by one: a folder of links, as ROS installs it, would not be served
            app.router.add_get(path, self._file(file))
        runner = self._web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await self._listen(runner, port)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # not in the main thread
                    loop.add_signal_handler(number, self._over.set)
            await self._over.wait()
        finally:
            await runner.cleanup()
        return self._done

    async def _listen(self, runner: Any, port: int) -> None:
        site = self._web.TCPSite(runner, _HOST, port)
        try:
            await site.start()
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "is in use" if error.errno == errno.EADDRINUSE else "may not be used by this user"
            raise OSError(f"port {port} of {_HOST} {why}; choose another with --port (0: any)") from None
        port = runner.addresses[0][1]
        self._hosts = (f"{_HOST}:{port}", f"localhost:{port}")
        print(f"Open http://{_HOST}:{port}/ in a browser on this machine. Ctrl-C ends it.", flush=True)

    def _local_only(self) -> Any:
        """A middleware that refuses what other sites' pages, or names that lead here, might send the browser for."""

        async def check(request: Any, handler: Any) -> Any:
            origin = request.headers.get("Origin")
            if request.host not in self._hosts or origin not in (None, *(f"http://{host}" for host in self._hosts)):
                raise self._web.HTTPForbidden(text="this page is for this machine's own browser alone")
            response = await handler(request)
            if not response.prepared:
                response.headers.update(_HEADERS)
            return response

        return self._web.middleware(check)

    def _file(self, name: str) -> Any:
        async def answer(_: Any) -> Any:
            return self._web.FileResponse(_PAGE / name)

        return answer

    async def _connection(self, request: Any) -> Any:
        socket = self._web.WebSocketResponse(heartbeat=20.0, max_msg_size=1 << 16)
        await socket.prepare(request)
        await socket.send_json({"type": "about", **self._stage.about()})
        ready = asyncio.Event()
        sender = asyncio.create_task(self._send_scenes(socket, ready))
        over = asyncio.create_task(self._over.wait())
        over.add_done_callback(lambda _: asyncio.ensure_future(socket.close()))
        try:
            async for message in socket:
                await self._answer(socket, message.data, ready)
        finally:
            sender.cancel()
            over.cancel()
        return socket

    async def _send_scenes(self, socket: Any, ready: asyncio.Event) -> None:
        serial, told = 0, ""
        while not socket.closed:
            await ready.wait()
            newest, scene, problem = await asyncio.to_thread(self._stage.showing.newer, serial, _WAIT)
            if newest == serial:
                continue
            serial = newest
            with contextlib.suppress(ConnectionError):  # the browser went away
                if problem and problem != told:
                    told = problem
                    await socket.send_json({"type": "error", "message": problem})
                elif scene is not None:
                    ready.clear()
                    await socket.send_bytes(_packed(scene))

    async def _answer(self, socket: Any, data: Any, ready: asyncio.Event) -> None:
        try:
            order = json.loads(data)
            if order["type"] == "ready":
                ready.set()
            elif order["type"] == "done":
                self._done = True
                self._over.set()
            else:
                await asyncio.to_thread(self._obey, order)
        except (ClickError, RecordingError) as error:
            await socket.send_json({"type": "error", "message": str(error)})
        except (ValueError, KeyError, TypeError) as error:
            await socket.send_json({"type": "error", "message": f"not understood: {error!r}"})

    def _obey(self, order: dict[str, Any]) -> None:
        kind, stage = order["type"], self._stage
        if kind == "add":
            stage.add(str(order["image"]), float(order["x"]), float(order["y"]))
        elif kind == "remove":
            stage.remove(int(order["point"]))
        elif kind == "clear":
            stage.clear()
        elif kind == "play":
            stage.play(bool(order["playing"]))
        elif kind == "seek":
            stage.seek(int(order["index"]))
        else:
            raise ValueError(kind)


def _packed(scene: Scene) -> bytes:
    header = json.dumps(scene.header()).encode()
    return struct.pack("<I", len(header)) + header + scene.jpeg
