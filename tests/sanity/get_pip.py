# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts pip into the virtual environments of ansible-test.

ansible-test would download a script for that from a place of its own, which offline machines do not reach. Python
brings a pip of its own (ensurepip); that one installs the pip asked for, from wherever pip is configured to look.
"""

from __future__ import annotations

import ensurepip
import glob
import os
import sys


def main():
    """Run `pip install` with the arguments that ansible-test gives, less two that only its own script knows."""
    folders = [os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")]
    # Debian keeps the wheels apart from ensurepip.
    folders.append("/usr/share/python-wheels")
    wheels = [wheel for folder in folders for wheel in sorted(glob.glob(os.path.join(folder, "pip-*.whl")))]
    if not wheels:
        sys.exit("No pip comes with this Python: install python3-venv (looked in {})".format(" and ".join(folders)))
    sys.path.insert(0, wheels[0])
    from pip._internal.cli.main import main as pip

    known = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
    sys.exit(pip(["install", *known]))


if __name__ == "__main__":
    main()
