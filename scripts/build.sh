#!/usr/bin/env bash
# Builds the release binaries.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
say "Building (release)"
at=$SECONDS
cargo build --locked --release --quiet --bins
note "target/release/vinet, vinetd and vinet-perf are built ($((SECONDS - at)) s)"
