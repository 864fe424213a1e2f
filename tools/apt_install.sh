#!/usr/bin/env bash
# Installs Debian packages as root or through sudo; says plainly when it cannot.
# Usage: tools/apt_install.sh "what they are for" package…
set -euo pipefail
purpose=$1
shift

if ! command -v apt-get >/dev/null; then
    echo "tidegate: needs $purpose; this system has no apt-get. Install the equivalent of '$*' with its own package manager." >&2
    exit 1
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null; then
    # Without a terminal nobody can type a password: fail at once instead of waiting for one.
    if [ -t 0 ]; then as_root=(sudo); else as_root=(sudo -n); fi
else
    echo "tidegate: needs $purpose, and this user is neither root nor has sudo. Ask an administrator to run: apt-get install $*" >&2
    exit 1
fi
echo "tidegate: installing $* ($purpose)"
export DEBIAN_FRONTEND=noninteractive
# The package lists of a fresh machine may be empty or old: refresh them only when the first attempt fails.
"${as_root[@]}" apt-get install -y -q --no-install-recommends "$@" >/dev/null 2>&1 || {
    "${as_root[@]}" apt-get update -q >/dev/null
    "${as_root[@]}" apt-get install -y -q --no-install-recommends "$@"
}
