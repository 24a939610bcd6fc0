#!/bin/busybox sh
# root: null proc init
# The gateway is PID 1 and its server leaves orphans behind, among them daemons that left its
# group: all are reaped, and calls go on. The driver ends PID 1 and looks at its status.
set -eu
. /harness/lib_init.sh
