#!/usr/bin/env bash
# Installs what the tests need that a fresh machine with Rust and Python 3 lacks, into tests/.tools,
# and runs them all. A part that cannot be installed is a failure, never a skipped test.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="$PWD/tests/.tools"
python="$tools/python/bin/python"

# The clients that producers really use, and readers of Parquet that are not ours; versions are
# pinned, so that a failure is a change of ours.
if ! "$python" -c 'import influxdb_client, duckdb, pyarrow' 2>/dev/null; then
    echo "installing Python clients into tests/.tools"
    python3 -m venv "$tools/python" || {
        # Debian keeps the module for virtual environments in a package of its own.
        apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null
        python3 -m venv "$tools/python"
    }
    "$python" -m pip install --quiet --requirement tests/requirements.txt
fi
export TIDEGATE_TEST_PYTHON="$python"

# The plainest client of all.
command -v curl >/dev/null || { apt-get update -qq && apt-get install -qq -y curl >/dev/null; }
# File systems of the tests' own, which are filled and cut from their power, and a disk that fails.
# Mounting takes root; without it those tests fail, and say so.
declare -A packages=(
    [mkfs.ext4]=e2fsprogs [mkfs.xfs]=xfsprogs [losetup]=mount
    [nbdkit]=nbdkit [nbdfuse]=libnbd-bin [fusermount3]=fuse3
)
missing=()
for tool in "${!packages[@]}"; do
    command -v "$tool" >/dev/null || missing+=("${packages[$tool]}")
done
if ((${#missing[@]})); then
    echo "installing ${missing[*]}"
    apt-get update -qq && apt-get install -qq -y "${missing[@]}" >/dev/null
fi

cargo test --locked "$@"
