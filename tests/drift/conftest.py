"""Lets the tests of this room share `drift_streams`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
