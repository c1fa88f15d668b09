"""Write the schema of the websocket's frames: `python scripts/schema.py`."""

from __future__ import annotations

import json
from pathlib import Path

from drf_concord.protocol.answers import schema

TARGET = Path(__file__).resolve().parents[1] / "spec" / "frames.schema.json"

if __name__ == "__main__":
    TARGET.write_text(json.dumps(schema(), indent=2) + "\n")
