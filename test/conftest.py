"""What holds for every test: one torch thread, a ROS domain of this run's own, discovery on this machine only."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from tiny import tiny_model

from taptrv2_core import save_checkpoint
from taptrv2_ros.own_domain import claim_domain

ROOT = Path(__file__).resolve().parent.parent
# The files that take longest, begun first: where several processes share the files, none is left for the end.
LONGEST = [
    "gpu_check",
    "trainer",
    "evaluate_bags",
    "track_command",
    "cuda_build",
    "cuda_on_cpu",
    "ops",
    "demo",
    "node_process",
    "bench",
    "evaluate_bag",
    "streaming",
    "fused_decoder",
    "click_page",
    "node",
    "golden",
    "node_faults",
]

# Before anything starts ROS, and inherited by the processes that tests start.
os.environ["ROS_DOMAIN_ID"] = str(claim_domain())
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
if os.environ.get("ROS_DISTRO") == "humble":
    os.environ["ROS_LOCALHOST_ONLY"] = "1"


# A shell starts jobs in the background with SIGINT ignored, which the processes of tests would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist keep the order of the files; by itself it begins with the one of the most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first."""
    place = {f"test_{name}": index for index, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the tiny network; read only."""
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    save_checkpoint(tiny_model(), path)
    return path


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder with package.xml in it."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Recordings kept beside the checkout, too large for the repository; tests that need them are skipped without."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}")
    return folder
