#!/usr/bin/env bash
# Question: how far is Tidegate from what else one could send the same lines to, on this machine?
#
# Starts Tidegate and its peers one after the other on loopback, each on a new folder, sends each the
# same three loads, and prints a table: lines a second, and CPU seconds of the server a million lines.
# The peers come out of Debian's packages: unpacked into --peers and run from there, so that no service
# is installed or started; PostgreSQL must be installed, as tests/run.sh does it. Line protocol is sent
# by `tidegate load`; PostgreSQL gets the same records as upserts, 100 rows a statement at most, by its
# own pgbench.
#
# Takes 15 runs of --seconds and half as long again for starts and stops. Needs a release build, curl, and
# apt-get and dpkg where the peers are not unpacked yet.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=6
tidegate=${CARGO_TARGET_DIR:-target}/release/tidegate
peers=
port=9086
only=
usage="usage: benches/compare.sh [--seconds N] [--only NAME] [--tidegate PROGRAM] [--peers FOLDER] [--port N]"
while (($#)); do
    case $1 in
        --seconds) seconds=${2:?$usage} ;;
        --only) only=${2:?$usage} ;;
        --tidegate) tidegate=${2:?$usage} ;;
        --peers) peers=${2:?$usage} ;;
        --port) port=${2:?$usage} ;;
        --help) echo "$usage"; exit 0 ;;
        *) echo "$1: unknown. $usage" >&2; exit 2 ;;
    esac
    shift 2
done
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "--seconds $seconds: write a number from 1" >&2; exit 2; }
[[ -x $tidegate ]] || { echo "$tidegate: not there; run cargo build --release" >&2; exit 2; }

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/tidegate-compare.XXXXXX")
peers=${peers:-$scratch/peers}
server=
# The one server that runs is stopped by its number, whatever ends this script.
trap 'stop; rm -rf "$scratch"' EXIT

stop() {
    [[ -n $server ]] || return 0
    # A fast shutdown, for PostgreSQL; the others take it as they take SIGTERM.
    kill -INT "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    server=
}

fail() {
    echo "$1; its last words:" >&2
    tail -n 5 "$scratch/log" >&2
    exit 1
}

# wait_for COMMAND..: until it succeeds, 20 s at most.
wait_for() {
    for _ in $(seq 200); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    fail "$name does not answer"
}

unpack() {
    mkdir -p "$peers"
    local package
    for package in influxdb victoria-metrics; do
        [[ -d $peers/$package ]] && continue
        echo "unpacking $package" >&2
        (cd "$peers" && apt-get -qq download "$package" >/dev/null 2>&1) \
            || { echo "$package: not to be had from the system's packages" >&2; continue; }
        dpkg -x "$peers/$package"_*.deb "$peers/$package"
    done
}

# Each starts a server on the folder $data with its address at $port, and sets `server` and `path`.
start_tidegate() {
    "$tidegate" serve --data "$data" --listen "127.0.0.1:$port" >"$scratch/log" 2>&1 &
    server=$!
    path=""
    wait_for curl -sf "127.0.0.1:$port/ready"
}

start_influxdb() {
    cat >"$scratch/influxdb.conf" <<CONF
reporting-disabled = true
bind-address = "127.0.0.1:$((port + 1))"
[meta]
  dir = "$data/meta"
[data]
  dir = "$data/data"
  wal-dir = "$data/wal"
  # Each write is synced by itself. With a delay they wait for a common sync, which a timer begins.
  wal-fsync-delay = "0s"
[http]
  bind-address = "127.0.0.1:$port"
  log-enabled = false
  max-body-size = 0
CONF
    "$peers/influxdb/usr/bin/influxd" -config "$scratch/influxdb.conf" >"$scratch/log" 2>&1 &
    server=$!
    path="/write?db=load&precision=n"
    wait_for curl -sf "127.0.0.1:$port/ping"
    curl -sf -o "$scratch/answer" "127.0.0.1:$port/query" --data-urlencode "q=CREATE DATABASE load"
}

start_victoria() {
    "$peers/victoria-metrics/usr/bin/victoria-metrics" -storageDataPath="$data" \
        -httpListenAddr="127.0.0.1:$port" -retentionPeriod=100y >"$scratch/log" 2>&1 &
    server=$!
    path="/write?db=load&precision=n"
    wait_for curl -sf "127.0.0.1:$port/health"
}

# Nobody takes what it collects, so that all of it goes to its queue on disk.
start_vmagent() {
    "$peers/victoria-metrics/usr/bin/vmagent" -remoteWrite.tmpDataPath="$data" \
        -remoteWrite.url="http://127.0.0.1:1/" -httpListenAddr="127.0.0.1:$port" \
        >"$scratch/log" 2>&1 &
    server=$!
    path="/write?db=load&precision=n"
    wait_for curl -sf "127.0.0.1:$port/health"
}

start_postgresql() {
    mkdir -p "$data"
    # It refuses to run as root, and a stranger must reach its folder.
    if ((EUID == 0)); then
        chmod 755 "$scratch"
        chown postgres "$data"
        as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    else
        as=()
    fi
    (cd / && "${as[@]}" "$postgresql/initdb" -D "$data" -U load -A trust -N) >"$scratch/log" 2>&1 \
        || fail "initdb"
    (cd / && exec "${as[@]}" "$postgresql/postgres" -D "$data" -p "$port" -h 127.0.0.1 \
        -k "$data" -c max_connections=100 -c shared_buffers=1GB -c max_wal_size=4GB) \
        >"$scratch/log" 2>&1 &
    server=$!
    wait_for "$postgresql/pg_isready" -h 127.0.0.1 -p "$port" -U load
    "$postgresql/psql" -q -h 127.0.0.1 -p "$port" -U load postgres -f "$scratch/table.sql"
}

# CPU seconds of PostgreSQL so far: of the processes that run and of those that have ended.
postgresql_cpu() {
    cat "/proc/$server/stat" $(pgrep -P "$server" | sed 's,.*,/proc/&/stat,') 2>/dev/null \
        | sed 's/.*) //' \
        | awk -v all="$server" '{ s += $12 + $13; if (NR == 1) s += $14 + $15 } END { print s / 100 }'
}

# upserts ROWS DIRECTORY: statements of so many rows with the tags and values that a host would send.
upserts() {
    mkdir -p "$2"
    awk -v rows="$1" -v tags="$3" -v fields="$4" -v dir="$2" 'BEGIN {
        srand(1)
        files = rows == 1 ? 100 : 4000 / rows
        for (f = 0; f < files; f++) {
            out = dir "/" f ".sql"
            # A time of its own for each statement; the table does not ask for an order.
            print "\\set t random(1, 1000000000000000)" > out
            printf "INSERT INTO cpu VALUES " > out
            for (r = 0; r < rows; r++) {
                host = f * rows + r
                printf "%s(:t,\047host_%d\047", r ? "," : "", host > out
                for (i = 2; i <= 10; i++) printf i <= tags ? ",\047eu-west-%d\047" : ",NULL", host % i > out
                for (i = 1; i <= 10; i++) if (i <= fields) printf ",%d", rand() * 100 > out; else printf ",NULL" > out
                printf ")" > out
            }
            printf " ON CONFLICT (t0, time) DO UPDATE SET " > out
            for (i = 0; i < 10; i++) printf "%sf%d=excluded.f%d", i ? "," : "", i, i > out
            print ";" > out
            close(out)
        }
    }'
}

# Sets `cell` to "lines/s, CPU-s a million lines" for one load on a new folder.
measure_line() {
    local said
    local flags=(--batch "$batch" --connections "$connections" --tags "$tags" --fields "$fields")
    [[ -z $path ]] || flags+=(--path "$path")
    said=$("$tidegate" load --url "http://127.0.0.1:$port" "${flags[@]}" --seconds "$seconds" \
        --pid "$server" 2>&1) || fail "$name: $said"
    cell=$(awk '/^lines/ { rate = $6 } /^server/ { cost = $4 } END { print rate ", " cost }' <<<"$said")
}

measure_postgresql() {
    local before after said rows=$((batch > 100 ? 100 : batch))
    local files=("$scratch/upserts-$rows-$tags"/*.sql)
    before=$(postgresql_cpu)
    said=$("$postgresql/pgbench" -h 127.0.0.1 -p "$port" -U load -n -c "$connections" -j 1 \
        -T "$seconds" "${files[@]/#/-f}" postgres 2>&1) || fail "pgbench: $said"
    after=$(postgresql_cpu)
    cell=$(awk -v rows="$rows" -v spent="$before $after" '
        /^number of transactions actually processed/ { split($6, n, "/"); lines = n[1] * rows }
        /^tps/ { rate = $3 * rows }
        END { split(spent, cpu, " "); printf "%d, %.1f\n", rate, (cpu[2] - cpu[1]) / lines * 1e6 }' <<<"$said")
}

# row NAME SYNCED MEASURE START..: one row of the table, unless only others are asked for.
row() {
    name=$1
    [[ $name == *"$only"* ]] || return 0
    local synced=$2 measure=$3 cells=() load
    shift 3
    for load in "5000 8 10 10" "100 16 10 10" "1 64 2 3"; do
        read -r batch connections tags fields <<<"$load"
        data=$scratch/data
        rm -rf "$data"
        "$@"
        "$measure"
        stop
        cells+=("$cell")
    done
    echo "| $name | $synced | ${cells[0]} | ${cells[1]} | ${cells[2]} |"
}

unpack
postgresql=
for found in /usr/lib/postgresql/*/bin; do [[ -x $found/pgbench ]] && postgresql=$found; done

echo "| lines/s, CPU-s a million lines | synced before the acknowledgement | 5,000 a request | 100 a request | 1 a request |"
echo "|---|---|---:|---:|---:|"
row "Tidegate" yes measure_line start_tidegate
if [[ -x $peers/influxdb/usr/bin/influxd ]]; then
    version=$("$peers/influxdb/usr/bin/influxd" version | grep -o '[0-9][0-9.]*' | head -1)
    row "InfluxDB $version" yes measure_line start_influxdb
fi
if [[ -x $peers/victoria-metrics/usr/bin/victoria-metrics ]]; then
    version=$(dpkg-deb -f "$peers"/victoria-metrics_*.deb Version | grep -o '^[0-9.]*')
    row "VictoriaMetrics $version" no measure_line start_victoria
    row "vmagent $version, queue on disk" no measure_line start_vmagent
fi
if [[ -n $postgresql ]]; then
    {
        echo "CREATE TABLE cpu (time bigint, t0 text, t1 text, t2 text, t3 text, t4 text, t5 text, t6 text,"
        echo "t7 text, t8 text, t9 text, f0 bigint, f1 bigint, f2 bigint, f3 bigint, f4 bigint, f5 bigint,"
        echo "f6 bigint, f7 bigint, f8 bigint, f9 bigint, PRIMARY KEY (t0, time));"
    } >"$scratch/table.sql"
    upserts 100 "$scratch/upserts-100-10" 10 10
    upserts 1 "$scratch/upserts-1-2" 2 3
    version=$("$postgresql/postgres" --version | grep -o '[0-9][0-9.]*' | head -1)
    row "PostgreSQL $version, upserts of at most 100 rows" yes measure_postgresql start_postgresql
else
    echo "PostgreSQL: not installed; apt-get install postgresql" >&2
fi
