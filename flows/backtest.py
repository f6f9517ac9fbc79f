"""The past run again on the installation's own logs; acts on nothing."""

import tempfile
from pathlib import Path
from typing import Any

from prefect import flow

from flows.equipped import config_path
from flows.occasion import occasion, run_name
from flows.parameters import BacktestParameters
from optimizer import settings, wiring
from optimizer.report.backtest import page, text
from tasks.backtest import read_log, tell_backtest, walk_hours
from tasks.options import opaque


@flow(name="backtest", flow_run_name=run_name, persist_result=False)
async def backtest(parameters: BacktestParameters = BacktestParameters()) -> dict[str, Any]:  # noqa: B008 - a frozen default that Prefect turns into the form
    """What would have been decided each hour of the period, and saved, beside the yardsticks.

    Its ledger, spool and gateway lie in a temporary directory; the installation's are not touched.
    """
    when = occasion(parameters)
    page.check_place(parameters.html)
    loaded = settings.load(config_path(parameters.config_file))
    with tempfile.TemporaryDirectory(prefix="llmopt-backtest-") as place:
        equipment = wiring.rehearse(loaded, Path(place))
        try:
            read = read_log(
                opaque(equipment),
                when.as_of,
                start=parameters.start,
                end=parameters.end,
                targets=parameters.targets,
            )
            walked = walk_hours(opaque(equipment), opaque(read))
            found = tell_backtest(opaque(equipment), opaque(walked))
        finally:
            wiring.close(equipment)
    if parameters.html is not None:
        page.write(found, parameters.html)
    decided = found.total.decided
    return {
        "headline": text.headline(found),
        "requests": found.total.spent.requests,
        "decisions": len(found.decisions),
        "spent_usd": found.total.spent.usd,
        "saving_usd": decided.saving.value,
        "unknown_requests": decided.unknown_requests,
    }
