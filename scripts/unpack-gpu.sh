#!/usr/bin/env bash
# Puts the parts of pack-gpu.sh together on a GPU machine, installs the packages without an index, and
# runs the tests marked gpu. docs/packing.md explains the use.
set -euo pipefail

usage="usage: unpack-gpu.sh [--into FOLDER] FOLDER... [-- ARGUMENTS OF PYTEST]
  FOLDER...      folders with the parts, about and SHA256SUMS; several if parts arrived in batches
  --into FOLDER  folder for the checkout and the packages (default: gpu-suite); a second call with the
                 same parts finds them there and only runs the tests
PYTHON names the interpreter (default: python3)."

fail() {
  echo "unpack-gpu.sh: $1" >&2
  exit 2
}

python=${PYTHON:-python3}
into=gpu-suite folders=()
while [ $# -gt 0 ]; do
  case $1 in
    --into)
      [ $# -ge 2 ] || fail "--into needs a value. Received: nothing"
      into=$2
      shift
      ;;
    --)
      shift
      break
      ;;
    -h | --help) echo "$usage" && exit 0 ;;
    -*) fail "The option is --into; arguments of pytest follow --. Received: $1" ;;
    *) folders+=("$1") ;;
  esac
  shift
done
[ ${#folders[@]} -gt 0 ] || fail "A folder with the parts is needed. Received: none"
for folder in "${folders[@]}"; do
  [ -d "$folder" ] || fail "A folder must exist. Received: $folder"
done

# Prints the path of a file in one of the folders; fails if none has it.
find_file() {
  local each
  for each in "${folders[@]}"; do
    if [ -f "$each/$1" ]; then
      echo "$each/$1"
      return
    fi
  done
  return 1
}

sums=$(find_file SHA256SUMS) || fail "SHA256SUMS must be in a folder. Received: ${folders[*]}"

# ------------------------------------------------------------------ the Python of this machine

found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) \
  || fail "PYTHON must be an interpreter. Received: $python"
"$python" -m pip --version > /dev/null 2>&1 || fail "PYTHON must have pip. Received: $python"

# ------------------------------------------------------------------ the parts

state=$(sha256sum "$sums" | cut -d ' ' -f 1)
if [ "$(cat "$into/.complete" 2> /dev/null)" != "$state" ]; then
  missing=() damaged=() parts=() names=0
  while read -r sum name; do
    names=$((names + 1))
    if ! path=$(find_file "$name"); then
      missing+=("$name")
    elif [ "$(sha256sum "$path" | cut -d ' ' -f 1)" != "$sum" ]; then
      damaged+=("$path")
    elif [ "$name" != about ]; then
      parts+=("$path")
    fi
  done < "$sums"
  [ ${#damaged[@]} -eq 0 ] \
    || fail "Files must have the sums of SHA256SUMS; copy them once more. Received: ${damaged[*]}"
  [ ${#missing[@]} -eq 0 ] \
    || fail "All $names files are needed. Received: without ${missing[*]}"
  about=$(find_file about)
  wanted=$(sed -n 's/^python=//p' "$about") needs=$(sed -n 's/^needs_kib=//p' "$about")
  [ "$found" = "$wanted" ] \
    || fail "The parts are for Python $wanted; pack with --python-version, or set PYTHON. Received: Python $found"
  case $(basename "$into") in
    "" | . | .. | /) fail "--into must name a folder of its own. Received: $into" ;;
  esac
  [ ! -e "$into" ] || [ -f "$into/.unpacking" ] || [ -f "$into/.complete" ] \
    || fail "--into must be a new folder, or one of an earlier call. Received: $into"
  rm -rf "$into"
  mkdir -p "$into/tmp"
  touch "$into/.unpacking" # until it is complete, so that the next call may start again
  free=$(df -Pk "$into" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$needs" ] \
    || fail "$((needs / 1024 + 1)) MiB of disk are needed. Received: $((free / 1024)) MiB free in $into"
  cat "${parts[@]}" | tar -C "$into" -xf -
  wheels=("$into"/wheels/*.whl)
  if [ -f "${wheels[0]}" ]; then
    TMPDIR=$(cd "$into/tmp" && pwd) "$python" -m pip install --disable-pip-version-check --quiet \
      --no-index --no-deps --no-compile --target "$into/packages" "${wheels[@]}" > "$into/log" 2>&1 \
      || fail "pip must install the wheels. Received: $(grep -m 1 ERROR "$into/log" || tail -1 "$into/log")"
  fi
  rm -rf "$into/wheels" "$into/tmp"
  mv "$into/.unpacking" "$into/.complete"
  echo "$state" > "$into/.complete"
fi

# ------------------------------------------------------------------ the tests

into=$(cd "$into" && pwd)
cd "$into/checkout"
# Several processes share the GPU, as most of the time is TensorFlow's tracing on the CPU.
[ $# -gt 0 ] || [ ! -d tests/gpu ] || set -- tests/gpu -n 4 --dist loadgroup
PYTHONPATH=$into/checkout:$into/packages${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m pytest -m gpu "$@"
