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

unset CDPATH # with which cd may go elsewhere, and print where
python=${PYTHON:-python3}
[[ $python != */* || $python == /* ]] || python=$PWD/$python # the tests run in another folder
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

sum_of() {
  sha256sum < "$1" | cut -d ' ' -f 1
}

# Prints the path of a file in one of the folders, of several that with the given sum. Fails with 1 if
# none has the file, and with 2 if it has another sum in all.
find_file() {
  local each found=""
  for each in "${folders[@]}"; do
    [ -f "$each/$1" ] || continue
    found=${found:-$each/$1}
    if [ $# -lt 2 ] || [ "$(sum_of "$each/$1")" = "$2" ]; then
      echo "$each/$1"
      return
    fi
  done
  [ -n "$found" ] || return 1
  echo "$found"
  return 2
}

sums=$(find_file SHA256SUMS) || fail "SHA256SUMS must be in a folder. Received: ${folders[*]}"

# ------------------------------------------------------------------ the Python of this machine

found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2> /dev/null) \
  || fail "PYTHON must be an interpreter. Received: $python"
"$python" -m pip --version > /dev/null 2>&1 || fail "PYTHON must have pip. Received: $python"

# ------------------------------------------------------------------ the parts

state=$(sum_of "$sums")
if [ "$(cat "$into/.complete" 2> /dev/null)" != "$state" ]; then
  missing=() damaged=() parts=() names=0
  # The last line is that of SHA256SUMS itself, which may be cut off as any other file.
  [ "$(tail -n 1 "$sums")" = "# $(head -n -1 "$sums" | sha256sum | cut -d ' ' -f 1)" ] \
    || fail "Files must be complete; copy them once more. Received: $sums"
  while read -r sum name; do
    [ "$sum" != "#" ] || continue
    names=$((names + 1))
    status=0
    path=$(find_file "$name" "$sum") || status=$?
    case $status in
      0) [ "$name" = about ] || parts+=("$path") ;;
      1) missing+=("$name") ;;
      *) damaged+=("$path") ;;
    esac
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
  # A link, such as one to a larger disk, stays; its folder is replaced.
  [ ! -L "$into" ] || into=$(realpath -m "$into")
  rm -rf "$into"
  mkdir -p "$into/tmp" 2> /dev/null || fail "--into must be a folder that can be written. Received: $into"
  touch "$into/.unpacking" # until it is complete, so that the next call may start again
  free=$(df -Pk "$into" | awk 'NR == 2 { print $4 }')
  [ "$free" -ge "$needs" ] \
    || fail "$((needs / 1024 + 1)) MiB of disk are needed. Received: $((free / 1024)) MiB free in $into"
  # The owners of the packed files need not exist here, and a container may not set them.
  cat "${parts[@]}" | tar -C "$into" --no-same-owner -xf - 2> "$into/log" \
    || fail "The parts must unpack. Received: $(head -n 1 "$into/log")"
  wheels=("$into"/wheels/*.whl)
  if [ -f "${wheels[0]}" ]; then
    # Without the machine's settings of pip: NVIDIA's images constrain releases, others ask for --user.
    TMPDIR=$(cd "$into/tmp" && pwd) PIP_CONFIG_FILE=/dev/null \
      "$python" -m pip --isolated install --disable-pip-version-check --quiet \
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
