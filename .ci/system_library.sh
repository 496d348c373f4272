#!/usr/bin/env bash
# Installs a system library when it is absent and we may; otherwise says the command and goes on.
# usage: system_library.sh SONAME "APT_PACKAGE ..." WHAT_NEEDS_IT
set -euo pipefail
soname=$1 purpose=$3
read -ra packages <<<"$2"

present() { { PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true; } | grep -qF "$soname"; }

if [ "$(uname -s)" != Linux ] || present; then exit 0; fi

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi
if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
  echo "installing ${packages[*]}"
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  export DEBIAN_FRONTEND=noninteractive
  if { "${as_root[@]}" apt-get update && "${as_root[@]}" apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    exit 0
  fi
  tail -n 5 "$log" >&2
fi
echo "note: $soname is missing and could not be installed here; $purpose will not work before you run" >&2
echo "      sudo apt-get install -y --no-install-recommends ${packages[*]}" >&2
