#!/usr/bin/env bash
# What `make test` needs beside Python: a real broker for the system tests, and Node.js with a 32-bit MicroPython
# (compiled to WebAssembly) to run the wire vectors on. Does nothing when all is there.
#
# Mosquitto is required. The 32-bit MicroPython may be missing on a developer's machine: its tests are then skipped
# and pytest prints why. With CI=true a missing one is an error.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
wasm=$here/../tests/wasm
package=node_modules/@micropython/micropython-webassembly-pyscript/micropython.mjs

if ! command -v mosquitto >/dev/null; then
    "$here/apt_install.sh" "the Mosquitto broker for the system tests" mosquitto
    # The tests start brokers of their own on free ports; the service the package brings is not needed.
    if [ -d /run/systemd/system ]; then
        if [ "$(id -u)" -eq 0 ]; then systemctl disable --now mosquitto; else sudo systemctl disable --now mosquitto; fi
    fi
fi

get_micropython_32bit() {
    local missing=()
    command -v node >/dev/null || missing+=(nodejs)
    command -v npm >/dev/null || missing+=(npm)
    if [ ${#missing[@]} -gt 0 ]; then
        "$here/apt_install.sh" "Node.js for the 32-bit MicroPython" "${missing[@]}" || return 1
    fi
    if [ ! -f "$wasm/$package" ] || [ "$wasm/package-lock.json" -nt "$wasm/$package" ]; then
        (cd "$wasm" && npm ci --no-audit --no-fund --loglevel=error && touch "$package") || return 1
    fi
}

if ! get_micropython_32bit; then
    if [ "${CI:-}" = true ]; then
        echo "tidegate: the 32-bit MicroPython is missing, and in CI the wire vectors must run on it." >&2
        exit 1
    fi
    echo "tidegate: no 32-bit MicroPython here; the tests that need it will be skipped." >&2
fi
