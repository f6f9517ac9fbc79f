import subprocess
import sys
from pathlib import Path

import optimizer.client

ROOT = Path(optimizer.client.__file__).parents[2]


def imported(statement: str) -> set[str]:
    """Modules that a fresh interpreter holds after a statement and not before."""
    program = f"import sys; old = set(sys.modules); {statement}; print(*set(sys.modules) - old)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_client_imports_the_standard_library_alone() -> None:
    modules = imported("import optimizer.client")

    assert {name.partition(".")[0] for name in modules} <= {"optimizer", *sys.stdlib_module_names}


def test_the_client_imports_no_other_part_of_the_optimizer() -> None:
    ours = {name for name in imported("import optimizer.client") if name.startswith("optimizer.")}

    assert "optimizer.client" in ours
    assert {name for name in ours if not f"{name}.".startswith("optimizer.client.")} == set()


def test_the_client_starts_without_anything_heavy() -> None:
    heavy = {"numpy", "pandas", "pydantic", "httpx", "sqlalchemy", "prefect"}
    slow = {"asyncio", "email", "http", "logging", "multiprocessing", "socket", "ssl", "tempfile"}

    assert imported("import optimizer.client") & (heavy | slow) == set()
