"""``python -m taptrv2_core.cli`` is ``taptr``."""

from __future__ import annotations

import sys

from taptrv2_core.cli import main

sys.exit(main())
