#!/usr/bin/env bash
# Creates .venv with a Python that is new enough; says what to do when there is none.
# Usage: tools/make_venv.sh [python]
set -euo pipefail
python=${1:-python3}

if ! command -v "$python" >/dev/null; then
    echo "tidegate: no '$python' on this machine. Install Python 3.11 or newer, or name one: make PYTHON=python3.12 …" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "tidegate: '$python' is $("$python" -V 2>&1), Tidegate needs 3.11 or newer. Name another: make PYTHON=python3.12 …" >&2
    exit 1
fi
# Debian and Ubuntu ship `venv` without `ensurepip`, its other half, until python3-venv is installed.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    "$(dirname "$0")/apt_install.sh" "Python's venv module" "python${version}-venv"
fi
"$python" -m venv .venv
