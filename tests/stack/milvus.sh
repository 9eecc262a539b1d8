#!/usr/bin/env bash
# The Milvus adapter on the stack's Milvus of region us: each test of tests/stack_milvus.rs is a check.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
cargo test --release --locked --test stack_milvus 2>&1 | awk '
    $1 == "test" && $NF == "ok" { gsub("_", " ", $2); print "ok - " $2; next }
    $1 == "test" && $NF == "FAILED" { gsub("_", " ", $2); print "not ok - " $2; next }
    { print }'
