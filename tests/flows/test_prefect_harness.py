import pytest


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_harness")
def test_a_flow_and_its_task_run_against_the_temporary_server() -> None:
    from prefect import flow, task  # noqa: PLC0415 - importing Prefect takes a second

    @task
    def double(number: int) -> int:
        return 2 * number

    @flow
    def doubling(number: int) -> int:
        return double(number)

    assert doubling(21) == 42
