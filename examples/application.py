"""How an application takes its arm and logs what the optimizer needs.

Run it beside a published allocation: ``python examples/application.py allocations logs``. It
answers with a stand-in for your model call; everything else is as in production.
"""

import json
import random
import sys
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from optimizer.client import Allocations

TARGET = "support-bot/answer"
FALLBACK = {TARGET: {"arm": "large", "model": "gpt-4o", "temperature": 0.7, "max_tokens": 1024}}


def call_model(config: Mapping[str, object], question: str) -> dict[str, float]:
    """Your model call goes here; it returns what it used."""
    time.sleep(random.uniform(0.001, 0.003))  # noqa: S311 - stands in for a network call
    tokens = 40 if config["model"] == "gpt-4o" else 55
    return {"input_tokens": len(question.split()) + 20, "output_tokens": tokens}


def main() -> None:
    """Serve a hundred requests in twenty sessions."""
    allocations = Allocations(Path(sys.argv[1]), baselines=FALLBACK)
    log = Path(sys.argv[2]) / f"calls-{datetime.now(UTC):%Y%m%d}.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for number in range(100):
            choice = allocations.choose(TARGET, unit=f"session-{number % 20}")
            began, started_at = time.perf_counter(), datetime.now(UTC)
            used = call_model(choice.config, "Where is my parcel?")
            entry = {
                **choice.log_fields(),
                **used,
                "request_id": str(uuid.uuid4()),
                "ts": started_at.isoformat(),
                "latency_ms": round((time.perf_counter() - began) * 1e3, 3),
                "status": "ok",
            }
            file.write(json.dumps(entry) + "\n")
    print(f"100 requests logged to {log}; allocation: {allocations.health(TARGET).origin}")


if __name__ == "__main__":
    main()
