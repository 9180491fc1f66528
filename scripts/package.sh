#!/usr/bin/env bash
# Makes the Debian packages vinet (the client) and vinet-router in target/debian, from the release binaries.
# Installs cargo-deb where it is missing. PROFILE=dev packages the debug binaries, to look at what a package holds.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
profile=${PROFILE:-release}
target=${CARGO_TARGET_DIR:-target}
folder=$target/$([ "$profile" = dev ] && echo debug || echo "$profile")
if ! cargo deb --version >/dev/null 2>&1; then
  say "Installing cargo-deb"
  retried cargo install --locked --quiet cargo-deb
fi
if [ "$profile" = release ]; then
  scripts/build.sh
else
  cargo build --locked --quiet --profile "$profile" -p vinet-client -p vinet-control --bins
fi

say "Manual pages and completions"
made=$folder/package
rm -rf "$made"
mkdir -p "$made/man" "$made/completions"
for program in vinet vinetd; do
  "$folder/$program" man "$made/man"
  "$folder/$program" completions bash >"$made/completions/$program.bash"
  "$folder/$program" completions zsh >"$made/completions/_$program"
  "$folder/$program" completions fish >"$made/completions/$program.fish"
done

say "Packages"
for crate in vinet-client vinet-control; do
  package=$(cargo deb --locked --no-build --quiet --profile "$profile" -p "$crate" | tail -n 1)
  note "$package ($(dpkg-deb --info "$package" | awk '/Installed-Size:/ {print $2}') KiB installed)"
done
