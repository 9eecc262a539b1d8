# shellcheck shell=bash disable=SC2034
# Sourced: which version of what, and where it is installed. A new version is a new folder, so
# that a running stack keeps the files it was started from.
kafka_version=4.3.1           # 4.4.0 lacks connect-mirror and kafka-tools on Maven Central
registry_version=2.6.13.Final # the newest that runs on Java 17; 3.x needs 21
jmx_version=1.0.1             # what tells Prometheus of Kafka
milvus_version=2.3.5          # the newest that comes as a wheel
requirements=$(dirname "${BASH_SOURCE[0]}")/requirements.txt
browser_requirements=$(dirname "${BASH_SOURCE[0]}")/../../tests/console/requirements.txt

cache=${XDG_CACHE_HOME:-$HOME/.cache}/driftless
export DRIFTLESS_KAFKA_DIR=$cache/kafka-$kafka_version
export DRIFTLESS_JMX_DIR=$cache/jmx-$jmx_version
export DRIFTLESS_REGISTRY_DIR=$cache/registry-$registry_version
export DRIFTLESS_MILVUS_DIR=$cache/milvus-$milvus_version
DRIFTLESS_CLIENTS_DIR=$cache/clients-$(cksum <"$requirements" | cut -d' ' -f1)
DRIFTLESS_BROWSER_DIR=$cache/browser-$(cksum <"$browser_requirements" | cut -d' ' -f1)
# By what it is made of: another program, another folder.
streams=$(dirname "${BASH_SOURCE[0]}")/../../bench/streams
DRIFTLESS_STREAMS_DIR=$cache/streams-$kafka_version-$(find "$streams" -type f -not -path '*/target/*' -print0 | sort -z | xargs -0 cat | cksum | cut -d' ' -f1)
export DRIFTLESS_CLIENTS_DIR DRIFTLESS_BROWSER_DIR DRIFTLESS_STREAMS_DIR
