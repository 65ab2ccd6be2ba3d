#!/bin/sh
# What Saccade needs of Debian 12 to run: Python. Everything else comes as wheels.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends ca-certificates python3
rm -rf /var/lib/apt/lists/*
