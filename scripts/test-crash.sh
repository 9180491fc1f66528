#!/usr/bin/env bash
# The store under `kill -9`, many times: a process with a router's ledger and store, under load, is killed at random moments, and
# after each kill everything is added up. `make test` does 20 kills; this does 300 and more.
#   scripts/test-crash.sh          300 kills
#   scripts/test-crash.sh 5000     as many as you like
# VINET_TEST_SEED=… repeats a run, as far as the machine's timing allows.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

kills=${1:-300}
[[ $kills =~ ^[1-9][0-9]*$ ]] || stop "'$kills' is no number of kills"

say "The store under $kills kills"
began=$SECONDS
VINET_CRASH_KILLS=$kills cargo test --locked --quiet -p vinet-control --test store_crash -- --nocapture ||
  stop "something was lost, or half there" "again, with the seed that stands above: VINET_TEST_SEED=… scripts/test-crash.sh $kills"
note "${green}passed${plain} in $((SECONDS - began)) s"
