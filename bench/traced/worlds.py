"""The worlds that are replayed: which arrivals are combined with whose failures and latencies."""

from pathlib import Path
from typing import Final

from bench.traced.arrivals import DAY_S, azure
from bench.traced.clients import servegen
from bench.traced.measured import endpoints, first_tokens, tasks
from bench.traced.running import World
from bench.traced.splitting import Serving

FAILURE_RATE: Final = 0.02
OFTEN: Final = 2_000.0
SELDOM: Final = 200.0
SMALL: Final = "ServeGen m-small, 2,000/h"
SMALL_KEPT: Final = "ServeGen m-small, 2,000/h, endpoints kept"
LARGE: Final = "ServeGen m-large, 2,000/h"
LARGE_SELDOM: Final = "ServeGen m-large, 200/h"
LARGE_CLIENTS: Final = "ServeGen m-large, 2,000/h, split by client"
CHAT: Final = "Azure 2023 chat, one hour"
CODE: Final = "Azure 2023 code, one hour, endpoints kept"
DAY: Final = "Azure 2024, one day"


def worlds(data: Path) -> list[World]:
    """Every world, in the order of the tables.

    Raises:
        FileNotFoundError: a data set is not there.
    """
    failing = endpoints(data, failure_rate=FAILURE_RATE)
    llmperf = Serving(failures=failing, latencies=failing, kept=False)
    kept = Serving(failures=failing, latencies=failing, kept=True)
    by_task = Serving(failures=failing, latencies=tasks(data), kept=False)
    first_token = Serving(failures=failing, latencies=first_tokens(data), kept=False)
    small = servegen(data, "m-small", volume=OFTEN)
    return [
        World(name=SMALL, traffic=small, serving=llmperf),
        World(name=SMALL_KEPT, traffic=small, serving=kept),
        World(name=LARGE, traffic=servegen(data, "m-large", volume=OFTEN), serving=by_task),
        World(
            name=LARGE_SELDOM,
            traffic=servegen(data, "m-large", volume=SELDOM),
            serving=llmperf,
        ),
        World(
            name=LARGE_CLIENTS,
            traffic=servegen(data, "m-large", volume=OFTEN, whole_clients=True),
            serving=llmperf,
            gated=False,
        ),
        World(name=CHAT, traffic=azure(data, "2023_conv", at_once=50), serving=first_token),
        World(name=CODE, traffic=azure(data, "2023_code", at_once=50), serving=kept),
        World(
            name=DAY,
            traffic=azure(data, "2024_sample", at_once=5, span_s=DAY_S),
            serving=llmperf,
        ),
    ]
