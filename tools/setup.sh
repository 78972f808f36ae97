#!/usr/bin/env bash
# What `make` calls to get ready.
#   setup.sh venv DIR QT   build the virtual environment DIR from constraints.txt with the Qt binding QT
#   setup.sh screen        install what Qt, OpenGL and a virtual screen need, or say what to install
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A version manager's shim may be on the path for a Python that is not there: only running it tells.
find_python() {
    local candidate
    for candidate in "${PYTHON:-python3}" python3.12 python3.13 python3.11; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
            >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    echo "No usable Python found: Python 3.11, 3.12 or 3.13 with its venv module is needed" \
        "(Debian: apt-get install python3-venv; or set PYTHON=/path/to/python3.12)." >&2
    return 1
}

venv() {
    local dir=$1 qt=$2 python
    if ! "$dir/bin/python" -m pip --version >/dev/null 2>&1; then
        python=$(find_python)
        echo "Building $dir with $("$python" --version): a few minutes and about 2.5 GB." >&2
        rm -rf "$dir"
        "$python" -m venv "$dir"
    fi
    local pip=("$dir/bin/python" -m pip --disable-pip-version-check --no-input)
    "${pip[@]}" install --quiet -c constraints.txt torch hatchling editables
    "${pip[@]}" install --quiet -c constraints.txt --no-build-isolation -e ".[$qt,dev]"
}

LIBRARIES=(libGL.so.1 libEGL.so.1 libglib-2.0.so.0 libfontconfig.so.1 libdbus-1.so.3 libxkbcommon-x11.so.0
    libxcb-icccm.so.4 libxcb-keysyms.so.1 libxcb-xinerama.so.0 libxcb-cursor.so.0 libxcb-image.so.0
    libxcb-render-util.so.0 libxcb-shape.so.0)
PACKAGES=(xvfb xauth libgl1 libgl1-mesa-dri libegl1 libglib2.0-0 libfontconfig1 libdbus-1-3 libxkbcommon-x11-0
    libxcb-icccm4 libxcb-keysyms1 libxcb-xinerama0 libxcb-cursor0 libxcb-image0 libxcb-render-util0 libxcb-shape0)

missing_for_screen() {
    local known name
    known=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)
    for name in "${LIBRARIES[@]}"; do
        [[ $known == *"$name "* ]] || echo "$name"
    done
    for name in xvfb-run xauth; do
        command -v "$name" >/dev/null || echo "$name"
    done
}

screen() {
    [[ $(uname -s) == Linux ]] || return 0
    local missing as_root=()
    missing=$(missing_for_screen | tr '\n' ' ')
    [[ -n $missing ]] || return 0
    if [[ $(id -u) != 0 ]]; then
        as_root=(sudo -n)
    fi
    if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
        echo "Installing what the screen needs: $missing" >&2
        if "${as_root[@]}" apt-get update -qq && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}" </dev/null >/dev/null; then
            return 0
        fi
    fi
    echo "The screen needs what is missing here: $missing" >&2
    echo "On Debian or Ubuntu: sudo apt-get install ${PACKAGES[*]}" >&2
    echo "Elsewhere: the packages of these names (Xvfb, Mesa's OpenGL and EGL, the xcb-util family, D-Bus)." >&2
    # With a screen of one's own the virtual one is not needed, and Qt itself says which library it misses.
    [[ -n ${DISPLAY:-}${WAYLAND_DISPLAY:-} ]]
}

case ${1:-} in
    venv) venv "$2" "$3" ;;
    screen) screen ;;
    *)
        echo "usage: setup.sh venv DIR QT | screen" >&2
        exit 2
        ;;
esac
