"""List the benches, or run one: ``python -m bench [NAME [ARGUMENT ...]]``."""

import ast
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent


def benches() -> dict[str, str]:
    """Every script here that can be run, with the first line of what it says of itself."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        runs = any(isinstance(node, ast.If) and "__name__" in ast.dump(node) for node in tree.body)
        if runs and path.stem != "__main__":
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(arguments: Sequence[str]) -> int:
    """Run the bench that is named, with the arguments that follow, or list them all."""
    known = benches()
    if not arguments:
        width = max(map(len, known))
        for name, says in known.items():
            print(f"{name:{width}}  {says}")
        print("\nRun one with: python -m bench NAME [ARGUMENT ...]; --help lists its arguments.")
        return 0
    if arguments[0] not in known:
        print(f"no bench {arguments[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    sys.argv = [f"bench.{arguments[0]}", *arguments[1:]]
    runpy.run_module(f"bench.{arguments[0]}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
