#!/bin/sh
# HAProxy doing what glommproxy does over TCP, as a peer of the relay bench:
#
#   cargo bench --bench relay -- --peer 'HAProxy=benches/peers/haproxy.sh {listen} {target} {allowed}'
set -eu

listen=$1
target=$2
refuse=
if [ "${3:-}" = --allowed-subnets ]; then
    refuse="tcp-request connection reject unless { src -f $4 }"
fi

# The configuration is read once, from standard input. `-db` keeps HAProxy in the foreground.
exec haproxy -db -f /dev/stdin <<EOT
global
    maxconn 8000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen relay
    $refuse
    bind $listen accept-proxy
    server game $target source 0.0.0.0 usesrc client
EOT
