"""Build of ``taptrv2_core`` for ``pip install .`` and the one definition of its fused ops, which CMake calls too.

``taptrv2_ros`` is not in here: it needs generated messages and comes with ``colcon build``.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import site
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

from setuptools import setup

ROOT = Path(__file__).parent
OPENCV_WHEELS = ("opencv-python-headless", "opencv-contrib-python-headless", "opencv-python", "opencv-contrib-python")


def target_site_packages() -> list[str]:
    """Where pip will install to. Inside pip's isolated build these folders are not on ``sys.path``."""
    return [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), site.getusersitepackages()]


def opencv_requirement() -> str:
    """The OpenCV wheel to depend on.

    All of OpenCV's wheels own the same folder ``cv2``, so a second one would overwrite the user's: whichever is there
    already is the one required. Otherwise the headless one, which imports without a desktop's libraries (libGL, X11).
    """
    found = importlib.metadata.distributions(path=target_site_packages())
    present = {(distribution.metadata["Name"] or "").lower() for distribution in found}
    name = next((wheel for wheel in OPENCV_WHEELS if wheel in present), OPENCV_WHEELS[0])
    return f"{name}>=4.5"


def op_build() -> ModuleType | None:
    """``tools/op_build.py``, or None where ops cannot be built because there is no torch to build them against.

    The ops must be built against the torch that will load them, never another one fetched for the build. pip hides the
    installed packages from an isolated build, so they are looked for behind everything else.
    """
    path = ROOT / "tools" / "op_build.py"
    if not path.exists():
        return None
    if importlib.util.find_spec("torch") is None:
        sys.path.extend(target_site_packages())
        importlib.invalidate_caches()
    if importlib.util.find_spec("torch") is None:
        print("taptrv2: no torch installed yet, so no fused ops (plain PyTorch is used). Install torch and run again.")
        return None
    sys.path.insert(0, str(path.parent))
    return importlib.import_module("op_build")


ops = op_build()
setup(
    license="Apache-2.0",
    install_requires=["torch>=2.4", "numpy>=1.21", opencv_requirement()],
    ext_modules=ops.ext_modules() if ops else [],
    cmdclass=ops.cmdclass() if ops else {},
    data_files=[("share/taptrv2_ros/msg", ["msg/PointTracks.msg"])],  # bags of tracks are written without ROS, too
)
