#!/bin/busybox sh
# root: null proc run sieve
# Behind the seccomp filter of an old container engine everything that commands.sh does works.
. /harness/commands.sh
