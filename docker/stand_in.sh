# Base images without a registry, for the scripts here that need a Docker engine. To be sourced, with `$run` (a name of the
# script's own), `$work` (a folder of its own) and `made=()`, the images to remove at the end.

say() { printf -- '--- %s\n' "$*"; }
ok() { printf 'ok: %s\n' "$*"; }

# The files of Debian packages and of what they depend on, as far as it is installed (there are alternatives), without
# manuals.
package_files() {
    apt-cache depends --recurse --installed --important "$@" | grep -E '^[a-z0-9]' | sort -u \
        | { xargs dpkg-query -L 2>/dev/null || true; } \
        | sed -E 's#^/(bin|sbin|lib|lib64)(/|$)#/usr/\1\2#' \
        | grep -Ev '^/(\.|usr/share/(doc|man|locale|info|lintian)(/|$))' | sort -u
}

has() { docker image inspect "$1" >/dev/null 2>&1; }

# stand_in TAG PACKAGE...: an image of these packages, if the engine has none of that name. `$extra` is a tar file to add to,
# `$entrypoint` what it runs, as JSON.
stand_in() {
    local tag=$1 tar=${extra:-$work/base.tar}
    shift
    if has "$tag"; then
        say "$tag is there"
        return
    fi
    say "$tag is made of Debian packages: $*"
    dpkg-query -W "$@" >/dev/null || fail "these packages have to be installed: $*"
    { package_files base-files coreutils dash grep sed libc-bin "$@"
      printf '%s\n' /bin /sbin /lib /lib64 /usr/bin/cc /etc/alternatives/cc /etc/passwd /etc/group /tmp; } | sort -u >"$work/files"
    tar -C / --no-recursion --ignore-failed-read -rf "$tar" -T "$work/files" 2>/dev/null
    docker import --change "LABEL glommproxy.test=$run" --change "ENTRYPOINT ${entrypoint:-[]}" \
        --change 'ENV PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin CARGO_HOME=/opt/cargo' \
        "$tar" "$tag" >/dev/null
    made+=("$tag")
    rm -f "$tar"
}
