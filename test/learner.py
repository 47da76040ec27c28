"""A network and a stage small enough to train in a test."""

from __future__ import annotations

from dataclasses import replace

import torch
from tiny import TINY

from taptrv2_core.training.parallel import Workers
from taptrv2_core.training.stages import Stage

ALONE = Workers(0, 1, torch.device("cpu"))
LEARNER = replace(TINY, name="learner", channels=64)
STAGE = Stage("tiny", 6, (64, 64), 8, 16, 1, 1e-3, 1e-4, speed=(1.0, 6.0), provisional=1)
