"""Make the CMake exports of ROS's Python wheels usable on this machine.

The wheels in ``requirements/ros.txt`` carry absolute paths of the machine that built them, and libraries that only
that machine had. Run with the environment's own Python after installing them; a second run changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

UNNEEDED = (
    ";/usr/lib64/libtinyxml2.so",  # the next three are inside Fast DDS's own wheel
    r"\$<\$<BOOL:1>:OpenSSL::SSL\$<SEMICOLON>OpenSSL::Crypto\$<\$<BOOL:>:\$<SEMICOLON>crypt32.lib>>;",
    "find_package(OpenSSL REQUIRED)\n",
    "lttng-ust;",  # a tracer that the wheels were built without
)


def mended(text: str) -> str:
    """The export ``text`` with this interpreter's paths and without the libraries that nothing here links."""
    text = re.sub(r"/opt/python/[^/;\"]+/include/python3\.\d+", sysconfig.get_path("include"), text)
    text = re.sub(r"/opt/python/[^;\"]+/numpy/_?core/include", numpy.get_include(), text)
    for part in UNNEEDED:
        text = text.replace(part, "")
    return text


def main() -> int:
    exports = sorted(Path(sys.prefix, "share").glob("*/cmake/*.cmake"))
    if not exports:
        print(f"{sys.prefix}/share has no CMake exports: install requirements/ros.txt first", file=sys.stderr)
        return 1
    for path in exports:
        text = path.read_text(encoding="utf-8")
        new = mended(text)
        if new != text:
            path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
