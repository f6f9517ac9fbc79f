"""Make the work pool and register every deployment of prefect.yaml; again changes nothing.

Run as ``python -m deployments.provision`` with PREFECT_API_URL set.
"""

import subprocess
import sys

POOL = "llmopt"


def main() -> int:
    """The exit code: 0 once pool and deployments are in place."""
    steps = (
        ("work-pool", "create", POOL, "--type", "process", "--overwrite"),
        ("--no-prompt", "deploy", "--all"),
    )
    for step in steps:
        done = subprocess.run([sys.executable, "-m", "prefect", *step], check=False)  # noqa: S603 - constants
        if done.returncode != 0:
            print(f"prefect {' '.join(step)} ended with code {done.returncode}")
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
