#!/bin/sh
# nginx doing what glommproxy does over TCP, as a peer of the relay bench:
#
#   cargo bench --bench relay -- --peer 'nginx=benches/peers/nginx.sh {listen} {target}'
set -eu

listen=$1
target=$2

# Debian has the module in a file of its own; elsewhere it is built in.
module=/usr/lib/nginx/modules/ngx_stream_module.so
load=
if [ -e "$module" ]; then
    load="load_module $module;"
fi

folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
trap 'kill "$nginx"' TERM INT
cat > "$folder/nginx.conf" <<EOT
$load
user root;
daemon off;
worker_processes auto;
worker_rlimit_nofile 20000;
pid $folder/pid;
error_log stderr;
events {
    worker_connections 10000;
}
stream {
    server {
        listen $listen proxy_protocol reuseport backlog=4096;
        set_real_ip_from 0.0.0.0/0;
        set_real_ip_from ::/0;
        tcp_nodelay on;
        proxy_bind \$remote_addr:\$remote_port transparent;
        proxy_connect_timeout 5s;
        proxy_timeout 1h;
        proxy_pass $target;
    }
}
EOT
nginx -c "$folder/nginx.conf" -e stderr &
nginx=$!
# A signal ends the first of these; nginx ends during the second.
wait "$nginx" || true
wait "$nginx" || true
