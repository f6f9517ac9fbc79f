"""The configuration: one YAML file and the environment, read here and nowhere else.

Order: built-in defaults, then the file, then ``OPTIMIZER_<SECTION>__<KEY>``. A partial file works.
A wrong one is refused with file, line, path, value and bound, and a suggestion for a misspelt key.
Relative paths are relative to the file.
"""

from optimizer.settings.build import designs_of, policy_of, target_of, tunings_of
from optimizer.settings.environment import PrefectServer, prefect_server
from optimizer.settings.load import Loaded, load, load_text
from optimizer.settings.model import Settings

__all__ = [
    "Loaded",
    "PrefectServer",
    "Settings",
    "designs_of",
    "load",
    "load_text",
    "policy_of",
    "prefect_server",
    "target_of",
    "tunings_of",
]
