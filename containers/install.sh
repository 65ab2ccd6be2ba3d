#!/bin/sh
# Install Saccade from its source into an environment of its own, on a plain Debian 12, as root.
#
#     containers/install.sh SOURCE TARGET
#
# TARGET must be where it will stay: the commands in it name it.
set -eu
source=$1 target=$2
"$source/containers/system.sh"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends python3-venv
python3 -m venv "$target"
"$target/bin/pip" install --no-cache-dir --quiet --constraint "$source/constraints.txt" \
  "$source[remote,segmentation,cluster]"
"$target/bin/saccade" --help >/dev/null
rm -rf /var/lib/apt/lists/*
