"""The configuration: one YAML file and the environment, read here and nowhere else.

Order: built-in defaults, then the file, then ``OPTIMIZER_<SECTION>__<KEY>``. A partial file works.
A wrong one is refused with file, line, path, value and bound, and a suggestion for a misspelt key.
"""

from optimizer.settings.build import policy_of, target_of
from optimizer.settings.load import Loaded, load, load_text
from optimizer.settings.model import Settings

__all__ = ["Loaded", "Settings", "load", "load_text", "policy_of", "target_of"]
