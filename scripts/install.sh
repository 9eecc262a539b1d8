#!/usr/bin/env bash
# Installs what is missing, from an empty machine on; does nothing, quickly, when all is there.
#
# usage: scripts/install.sh build|stack|console|bench…
#   build   what cargo needs: a C toolchain (librdkafka is built from source), and on
#           x86_64 Linux valgrind for tests/instructions.rs
#   stack   what scripts/stack.sh needs: Java, Maven, Python, Prometheus and Alertmanager from the
#           system's packages; the other servers and the test clients into ${XDG_CACHE_HOME:-~/.cache}/driftless
#   bench   the peer of scripts/bench.sh, a Kafka Streams application: its jars and its classes, into the same folder
#   console what tests/console needs: Chromium from the system's packages, Playwright into the same folder
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/stack/versions.sh
. "$here/stack/versions.sh"
# As root in a container is fine.
export PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1

say() { echo "install: $*" >&2; }
die() { say "$*"; exit 1; }

# Registries have bad moments; three tries ride out the short ones.
retried() {
    local pause
    for pause in 0 3 10; do
        sleep $pause
        "$@" && return
        say "failed: $*"
    done
    die "giving up after three tries"
}

# system_packages PACKAGE=CHECK…: installs each package whose check fails.
system_packages() {
    local pair missing=()
    for pair in "$@"; do
        eval "${pair#*=}" >/dev/null 2>&1 || missing+=("${pair%%=*}")
    done
    [ ${#missing[@]} = 0 ] && return
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        die "please install, by the names of Debian's packages: ${missing[*]}"
    fi
    say "apt-get install ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    retried apt-get update -qq
    retried apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

java_17() {
    local version
    version=$("${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
    [ "${version:-0}" -ge 17 ]
}

# part FOLDER FETCH: runs FETCH in a new folder that gets its name once it is complete.
part() {
    [ -d "$1" ] && return
    local begin=$SECONDS
    rm -rf "$1.part"
    mkdir -p "$1.part"
    (cd "$1.part" && "$2")
    mv "$1.part" "$1"
    say "$(basename "$1") in $((SECONDS - begin)) s"
}

maven() { retried mvn -q -B -ntp -f "$here/stack/pom.xml" -Dkafka.version="$kafka_version" "$@"; }

fetch_kafka() { maven dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD"; }

fetch_jmx() {
    maven dependency:copy -DoutputDirectory="$PWD" -Dmdep.stripVersion=true \
        -Dartifact="io.prometheus.jmx:jmx_prometheus_javaagent:$jmx_version"
}

fetch_registry() {
    local artifact=apicurio-registry-app
    maven dependency:copy -DoutputDirectory="$PWD" \
        -Dartifact="io.apicurio:$artifact:$registry_version:tar.gz:all"
    tar xzf "$artifact-$registry_version-all.tar.gz"
    rm "$artifact-$registry_version-all.tar.gz"
}

# The wheel is only a box: taken out of it are the programs, which are compressed, and the
# template of their configuration.
fetch_milvus() {
    retried python3 -m pip install -q --no-deps --no-compile --target wheel "milvus==$milvus_version"
    mkdir bin
    python3 - <<'END'
import lzma, pathlib, shutil

data = pathlib.Path("wheel/milvus/data")
for packed in (data / "bin").glob("*.lzma"):
    file = pathlib.Path("bin", packed.stem)
    with lzma.open(packed) as source, file.open("wb") as target:
        shutil.copyfileobj(source, target)
    file.chmod(0o755)
for name in ("config.yaml.template", "glog.conf"):
    shutil.copy(data / name, ".")
END
    rm -r wheel
}

fetch_clients() { fetch_python "$requirements"; }
fetch_browser() { fetch_python "$browser_requirements"; }
fetch_python() {
    # It will be moved once, which python itself does not mind; only bin/pip's first line does.
    python3 -m venv .
    retried bin/python -m pip install -q -r "$1"
}

install_build() {
    system_packages 'gcc=command -v cc' 'g++=command -v c++' 'libc6-dev=test -e /usr/include/stdlib.h' \
        'make=command -v make' 'perl=command -v perl' \
        'valgrind=[ "$(uname -sm)" != "Linux x86_64" ] || command -v valgrind'
    command -v cargo >/dev/null || die "cargo is missing: install Rust with rustup"
}

install_stack() {
    [ "$(uname -sm)" = 'Linux x86_64' ] || die "the servers' programs exist for Linux on x86_64 only"
    system_packages 'default-jre-headless=java_17' 'maven=command -v mvn' \
        'python3-venv=python3 -c "import ensurepip, venv"' \
        'prometheus=command -v promtool' 'prometheus-alertmanager=command -v amtool'
    mkdir -p "$cache"
    # Stacks may be started side by side: one installs, the others wait for it.
    exec 9>"$cache/install.lock"
    flock 9
    # One after the other where they share a client's own cache, side by side where not.
    local by_maven by_pip complete=yes
    {
        part "$DRIFTLESS_KAFKA_DIR" fetch_kafka
        part "$DRIFTLESS_JMX_DIR" fetch_jmx
        part "$DRIFTLESS_REGISTRY_DIR" fetch_registry
    } &
    by_maven=$!
    { part "$DRIFTLESS_MILVUS_DIR" fetch_milvus; part "$DRIFTLESS_CLIENTS_DIR" fetch_clients; } &
    by_pip=$!
    wait $by_maven || complete=
    wait $by_pip || complete=
    [ -n "$complete" ] || die "incomplete; what is there is kept for the next try"
    exec 9>&-
}

install_console() {
    # Some font there must be: without any, Chromium draws no text.
    system_packages 'chromium=command -v chromium' 'fonts-dejavu-core=test -d /usr/share/fonts/truetype/dejavu' \
        'python3-venv=python3 -c "import ensurepip, venv"'
    mkdir -p "$cache"
    exec 9>"$cache/install.lock"
    flock 9
    part "$DRIFTLESS_BROWSER_DIR" fetch_browser
    exec 9>&-
}

fetch_streams() {
    retried mvn -q -B -ntp -f "$here/../bench/streams/pom.xml" -Dkafka.version="$kafka_version" -Dbench.output="$PWD" \
        compile dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/lib"
}

install_bench() {
    system_packages 'default-jdk-headless=command -v javac' 'maven=command -v mvn'
    mkdir -p "$cache"
    exec 9>"$cache/install.lock"
    flock 9
    part "$DRIFTLESS_STREAMS_DIR" fetch_streams
    exec 9>&-
}

[ $# -gt 0 ] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2; exit 2; }
for what in "$@"; do
    case $what in
        build | stack | console | bench) "install_$what" ;;
        *) say "no such thing to install: $what"; exit 2 ;;
    esac
done
