#!/usr/bin/env bash
# The Kafka adapter on the stack's Kafka of region us: each test of tests/stack_kafka.rs is a check.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo test --release --locked --test stack_kafka 2>&1 | awk '
    $1 == "test" && $NF == "ok" { gsub("_", " ", $2); print "ok - " $2; next }
    $1 == "test" && $NF == "FAILED" { gsub("_", " ", $2); print "not ok - " $2; next }
    { print }'
