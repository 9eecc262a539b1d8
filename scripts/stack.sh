#!/usr/bin/env bash
# The real servers of two regions on loopback, without Docker. See usage below.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

usage() {
    cat <<'END'
usage: scripts/stack.sh COMMAND

  install             download what is missing (`up` does it too)
  up [--brokers REGION=N]… [NAME…]
                      start these servers and all that they need; default: every one. N is 1, as by
                      default, or 3: then what is written there has three replicas, two of them in sync. ap=1
                      adds a third region
  down                end what `up` started and delete its data (logs stay until the next `up`)
  stop [NAME…]        stop in an orderly way; data and ports are kept
  start [NAME…]       start again what was stopped or killed
  kill NAME…          SIGKILL
  wipe NAME…          delete the data of servers that do not run: they start again empty
  pause NAME…         SIGSTOP
  resume NAME…        SIGCONT
  clock NAME SECONDS  from its next start this server's wall clock is wrong by so many seconds; 0: right again
  status [--json] [NAME…]    exit code 1 unless all of them are ready
  env [NAME…]         shell lines to evaluate: eval "$(scripts/stack.sh env)"
  link cut [us|eu]    silence the link that carries what us (eu) has to the other region; or both
  link heal [us|eu]
  link delay MS [us|eu]      one way; 30 at the start
  link status

Servers: kafka-us kafka-eu link mm2 registry-us registry-eu milvus-us milvus-eu; with three brokers
kafka-us-2 and kafka-us-3 too.
They listen on free ports of their own choice: on 127.0.0.1, but for Milvus, which can only listen
on every interface.

Environment:
  DRIFTLESS_STACK_HOME   folder of the running stack [${XDG_CACHE_HOME:-~/.cache}/driftless/stack];
                         stacks with different ones run beside each other
  XDG_CACHE_HOME         downloads are kept in its folder driftless/
  JAVA_HOME              a Java of at least 17, instead of the one on the PATH
  DRIFTLESS_STACK_MIRRORMAKER
                         lines of properties for mm2, from its next start; they override those of docker/mirrormaker
  DRIFTLESS_STACK_JVM    "optimising": with the optimising compiler, for measurements of more than some minutes

Exit code: 0 done, 1 failed, 2 wrong usage.
END
}

# shellcheck source=scripts/stack/versions.sh
. "$here/stack/versions.sh"
export DRIFTLESS_STACK_HOME=${DRIFTLESS_STACK_HOME:-$cache/stack}
export DRIFTLESS_STACK=$here/stack.sh

case ${1:-} in
    -h | --help | help) usage; exit 0 ;;
    '') usage >&2; exit 2 ;;
    install) exec "$here/install.sh" stack ;;
esac
# Nothing has been started where nothing is installed, so every command may ask for it first.
"$here/install.sh" stack
exec "$DRIFTLESS_CLIENTS_DIR/bin/python" -B "$here/stack/stack.py" "$@"
