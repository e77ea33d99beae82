"""The deployed flows, each a module, such as `prefect_bluesky.flows.publish`.

The files are in the folder `flows` at the top of the repository. The wheel carries them here.
"""

from pathlib import Path

_IN_CLONE = Path(__file__).parents[3] / "flows"
if not Path(__file__).with_name("publish.py").exists():
    __path__.append(str(_IN_CLONE))
