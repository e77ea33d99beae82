"""The tests, and the environment that makes their processes start quickly."""

import os
import sys
from pathlib import Path

OUTSIDE = dict(os.environ)
"""The environment of whatever reaches outside: an installer."""

# Half of the time of an import of Prefect is compiling it, where nothing may be written.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Each HTTP client reads its file of certificates, 40 ms for the usual hundreds. No test trusts one of them.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("nobody.pem"))
