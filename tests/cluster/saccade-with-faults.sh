#!/usr/bin/env bash
# Stands first on PATH under the name of saccade, and calls the real one, $SACCADE, after what is to befall
# the job. $FAULTS holds a file for each fault, COMMAND.SLIDE, which says what:
#
#   hungry MB    holds so much memory for some seconds, at each attempt
#   slow         sleeps instead, at the first attempt
#   held         stands still while it holds the slide's lock, at the first attempt, until $FAULTS/go is there
set -euo pipefail
command=$1
slide=$(basename "${2:-none}" .tiff)
fault=$FAULTS/$command.$slide
[ -e "$fault" ] || exec "$SACCADE" "$@"

# /proc/locks names what is locked by its inode; to try the lock could be in the way of who wants it.
is_locked() { [ -e "$1" ] && grep -q ":$(stat -c %i "$1") " /proc/locks; }

read -r kind megabytes <"$fault" || true
case $kind in
hungry)
  python3 -c "import time; held = b'x' * ($megabytes << 20); time.sleep(6)"
  exec "$SACCADE" "$@"
  ;;
slow)
  mv "$fault" "$fault.met"
  exec sleep 600
  ;;
held)
  mv "$fault" "$fault.met"
  "$SACCADE" "$@" &
  until is_locked "results/$slide/.lock"; do sleep 0.1; done
  kill -STOP $!
  touch "$FAULTS/stands"
  until [ -e "$FAULTS/go" ]; do sleep 0.2; done
  kill -CONT $!
  wait $!
  ;;
*)
  echo "$fault: no such fault: $kind" >&2
  exit 2
  ;;
esac
