"""The backtest as a flow: it tells in the UI what it found, and acts on nothing."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from backtest_scene import LARGE, NOW, SMALL, configured, hours_after, logged, write_log
from flows.backtest import backtest
from flows.parameters import BacktestParameters

pytestmark = pytest.mark.usefixtures("prefect_harness")

HOURS = 3


async def _artifacts(*keys: str) -> dict[str, Any]:
    async with get_client() as client:
        found = await client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=list(keys)))
        )
    return {str(artifact.key): artifact.data for artifact in found}


def test_it_leaves_a_page_and_a_table_and_nothing_else(tmp_path: Path) -> None:
    write_log(tmp_path, logged({"large": LARGE, "small": SMALL}, hours=HOURS))
    config = configured(tmp_path, {"chat": ("large", "small")})
    page = tmp_path / "page.html"

    result = asyncio.run(
        backtest(
            BacktestParameters(
                config_file=config, as_of=NOW, clock=NOW, end=hours_after(HOURS), html=page
            )
        )
    )

    assert result["decisions"] == 1
    assert result["saving_usd"] > 0
    left = asyncio.run(_artifacts("backtest", "backtest-targets"))
    assert str(left["backtest"]).startswith("# Backtest: ")
    assert "chat" in str(left["backtest-targets"])
    assert {path.name for path in tmp_path.iterdir()} == {
        "optimizer.yaml",
        "calls.csv",
        "scores.csv",
        "page.html",
    }
