"""From which moment a run looks."""

import asyncio
from datetime import datetime, timedelta

import pytest
from prefect import flow

from flows.occasion import occasion
from flows.parameters import RunParameters

pytestmark = pytest.mark.usefixtures("prefect_harness")


@flow(name="looking", persist_result=False)
async def looking() -> datetime:
    return occasion(RunParameters()).as_of


def test_the_scheduled_start_keeps_its_zone_in_arithmetic() -> None:
    moment = asyncio.run(looking())

    assert (moment - timedelta(days=1)).utcoffset() == timedelta(0)
