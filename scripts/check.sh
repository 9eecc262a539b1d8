#!/usr/bin/env bash
# The one door before a commit: format, clippy with warnings as errors, tests that need no servers.
exec "$(dirname "${BASH_SOURCE[0]}")/test.sh" fast
