#!/usr/bin/env bash
# Packs what the GPU tests need for a machine that cannot reach a package index: the tracked files of
# this checkout and wheels, as parts of at most SIZE. docs/packing.md explains the use.
set -euo pipefail

usage="usage: scripts/pack-gpu.sh [--python-version X.Y] [--has FILE] [--requirements FILE] SIZE [FOLDER]
  SIZE                  size of a part at most, such as 60M (K, M or G: powers of 1024; 64K or more)
  FOLDER                new folder for the parts (default: gpu-parts)
  --python-version X.Y  Python of the GPU machine (default: that of this machine's interpreter)
  --has FILE            output of pip freeze or pip list of that machine; a package that it has in the
                        version that would be packed is left out
  --requirements FILE   packs these instead of the extra gpu and the packages of the tests
PYTHON names the interpreter whose pip and uv are used (default: .venv/bin/python, else python3)."

fail() {
  echo "pack-gpu.sh: $1" >&2
  exit 2
}

unset CDPATH # with which cd may go elsewhere, and print where
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
[ -n "${PYTHON:-}" ] || [ -x "$python" ] || python=python3
version="" has="" requirements="" size="" folder=""
while [ $# -gt 0 ]; do
  case $1 in
    --python-version | --has | --requirements)
      [ $# -ge 2 ] || fail "$1 needs a value. Received: nothing"
      case $1 in
        --python-version) version=$2 ;;
        --has) has=$2 ;;
        --requirements) requirements=$2 ;;
      esac
      shift
      ;;
    -h | --help) echo "$usage" && exit 0 ;;
    -*) fail "Options are --python-version, --has and --requirements. Received: $1" ;;
    *) if [ -z "$size" ]; then size=$1; elif [ -z "$folder" ]; then folder=$1; else
      fail "SIZE and FOLDER are all arguments. Received: $1"
    fi ;;
  esac
  shift
done

# ------------------------------------------------------------------ checks before any work

[ -n "$size" ] || fail "SIZE is needed, such as 60M. Received: nothing"
[[ $size =~ ^([1-9][0-9]{0,5})([KMG])$ ]] \
  || fail "SIZE must be a whole number with K, M or G, such as 60M. Received: $size"
declare -A units=([K]=1 [M]=1024 [G]=1048576)
kib=$((BASH_REMATCH[1] * units[${BASH_REMATCH[2]}]))
[ "$kib" -ge 64 ] || fail "SIZE must be at least 64K. Received: $size"
folder=${folder:-gpu-parts}
[ ! -e "$folder" ] && [ ! -L "$folder" ] || fail "FOLDER must not exist yet. Received: $folder"
for file in "$has" "$requirements"; do
  [ -z "$file" ] || [ -f "$file" ] || fail "A file must exist. Received: $file"
done
"$python" -m pip --version > /dev/null 2>&1 || fail "PYTHON must have pip. Received: $python"
version=${version:-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')}
[[ $version =~ ^3\.[0-9]+$ ]] \
  || fail "--python-version must be 3.N, such as 3.12. Received: $version"
uv=$("$python" -c 'import uv; print(uv.find_uv_bin())' 2> /dev/null) || uv=$(command -v uv) \
  || fail "uv is needed, which the extra dev installs. Received: $python without it"

mkdir -p "$(dirname "$folder")" 2> /dev/null \
  && stage=$(mktemp -d "$(dirname "$folder")/.pack-gpu.XXXXXX" 2> /dev/null) \
  || fail "FOLDER must be in a folder that can be written. Received: $folder"
trap 'rm -rf "$stage"' EXIT
mkdir "$stage/content" "$stage/content/wheels" "$stage/parts"

# ------------------------------------------------------------------ which packages

# The packages of the extra dev that tests import; its other tools check code and build packages.
"$python" - "$root/pyproject.toml" > "$stage/suite.in" << 'END'
import re, sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))["project"]
tools = {"ruff", "pyright", "pre-commit", "build", "hatchling", "uv", "keras-gan"}
extras = project.get("optional-dependencies", {})
wanted = [*project.get("dependencies", []), *extras.get("gpu", []), *extras.get("serve", [])]
wanted += [x for x in extras.get("dev", []) if re.split(r"[^\w-]", x)[0] not in tools]
print("\n".join(wanted))
END
resolve=("$uv" pip compile --quiet --no-header --no-annotate --python-version "$version"
  --python-platform x86_64-manylinux_2_28 "${requirements:-$stage/suite.in}")
[ ! -f "$root/constraints.txt" ] || [ -n "$requirements" ] \
  || resolve+=(-c "$root/constraints.txt")
"${resolve[@]}" > "$stage/all.txt" 2> "$stage/log" \
  || fail "Packages for Python $version must resolve. Received: $(tr -s '[:space:]' ' ' < "$stage/log")"

# TensorFlow finds NVIDIA's libraries beside its own folder only, so both come from one place.
"$python" - "$stage/all.txt" "$has" > "$stage/wanted.txt" << 'END'
import re, sys
def pins(path):
    text = open(path, encoding="utf-8", errors="replace")
    lines = (re.match(r"([\w.-]+)(?:\[.*?\])?(?:==|\s+)(\d\S*)", x) for x in text)
    return {re.sub(r"[-_.]+", "-", x[1]).lower(): x[2] for x in lines if x}
wanted, has = pins(sys.argv[1]), pins(sys.argv[2]) if sys.argv[2] else {}
left = {name for name, version in wanted.items() if has.get(name) == version}
nvidia = {name for name in wanted if name.startswith("nvidia-")}
if "tensorflow" in left and nvidia <= set(has):
    left |= nvidia  # those that its TensorFlow uses already, in whatever version
elif "tensorflow" in wanted and nvidia:
    left -= nvidia | {"tensorflow"}
for name in sorted(set(wanted) - left):
    print(f"{name}=={wanted[name]}")
END

# ------------------------------------------------------------------ the wheels and the checkout

download=("$python" -m pip download --disable-pip-version-check --quiet --no-deps
  --dest "$stage/content/wheels" --python-version "$version" --implementation cp
  --platform linux_x86_64 --platform manylinux1_x86_64 --platform manylinux2010_x86_64
  --platform manylinux2014_x86_64)
for minor in $(seq 5 28); do
  download+=(--platform "manylinux_2_${minor}_x86_64")
done
if [ -s "$stage/wanted.txt" ]; then
  "${download[@]}" -r "$stage/wanted.txt" 2> "$stage/log" \
    || fail "pip must download every package. Received: $(grep -m 1 ERROR "$stage/log" || tail -1 "$stage/log")"
fi
for source in "$stage"/content/wheels/*.tar.gz "$stage"/content/wheels/*.zip; do
  [ -f "$source" ] || continue # a package without a wheel: one of Python code can be built here
  "$python" -m pip wheel --quiet --no-deps --wheel-dir "$stage/built" "$source" > "$stage/log" 2>&1 \
    && [ -n "$(find "$stage/built" -name '*-none-any.whl')" ] \
    || fail "A package must have a wheel for Python $version. Received: $(basename "$source")"
  mv "$stage"/built/*-none-any.whl "$stage/content/wheels/"
  rm -rf "$source" "$stage/built"
done
mkdir "$stage/content/checkout"
(cd "$root" && git ls-files -z) > "$stage/files" 2> /dev/null \
  || fail "The checkout must be one of git. Received: $root"
# Tracked files that were deleted are left out; links are packed also if they lead nowhere.
while IFS= read -r -d '' file; do
  [ ! -e "$root/$file" ] && [ ! -L "$root/$file" ] || printf '%s\0' "$file"
done < "$stage/files" > "$stage/present"
tar -C "$root" --null -T "$stage/present" -cf - | tar -C "$stage/content/checkout" -xf -
cp "$root/scripts/unpack-gpu.sh" "$stage/parts/"

# ------------------------------------------------------------------ the parts

# Needed there: the content, and the packages as installed, which pip moves within one file system.
installed=$("$python" - "$stage/content/wheels" << 'END'
import pathlib, sys, zipfile
wheels = pathlib.Path(sys.argv[1]).glob("*.whl")
print(sum(x.file_size for wheel in wheels for x in zipfile.ZipFile(wheel).infolist()) // 1024)
END
)
content=$(du -sk "$stage/content" | cut -f 1)
free=$(df -Pk "$stage" | awk 'NR == 2 { print $4 }')
[ "$free" -gt $((content + 1024)) ] \
  || fail "The parts need $((content / 1024 + 1)) MiB of disk. Received: $((free / 1024)) MiB free in $(dirname "$folder")"
printf 'python=%s\nneeds_kib=%s\n' "$version" $((content + installed + 1024)) > "$stage/parts/about"
count=$((2 * content / kib + 2)) # at most, as tar pads every file
digits=$((${#count} > 4 ? ${#count} : 4))
tar -C "$stage/content" -cf - . | split -b "${kib}K" -d -a "$digits" - "$stage/parts/part-"
(cd "$stage/parts" && sha256sum about part-* > SHA256SUMS)
# Its own sum, as it may be cut off on the way.
echo "# $(sha256sum < "$stage/parts/SHA256SUMS" | cut -d ' ' -f 1)" >> "$stage/parts/SHA256SUMS"
chmod 755 "$stage/parts"
mv "$stage/parts" "$folder"
count=$(find "$folder" -name 'part-*' | wc -l)
wheels=$(find "$stage/content/wheels" -name '*.whl' | wc -l)
echo "$count parts of at most $size, $((content / 1024 + 1)) MiB with $wheels wheels for Python $version: $folder"
echo "There: bash unpack-gpu.sh FOLDER, with all files of $folder in FOLDER"
