# shellcheck shell=bash
# What ./scripts/dev and ./scripts/test share: saying things, and making sure that
# the tools are there. Sourced, never run.

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

as_root() {
    if [[ $(id -u) -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "root rights are needed for: $*"
    fi
}

# install_package COMMAND APT DNF BREW: installs what brings COMMAND when it is
# missing. A package list in DNF is tried name by name, since its distributions differ.
install_package() {
    local command=$1 apt=$2 dnf=$3 brew=$4 package
    if command -v "$command" >/dev/null; then
        return
    fi
    say "installing $command"
    if command -v apt-get >/dev/null; then
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$apt"
    elif command -v dnf >/dev/null; then
        for package in $dnf; do
            as_root dnf install -y -q "$package" && break
        done
    elif command -v brew >/dev/null; then
        brew install --quiet "$brew"
    else
        fail "$command is missing, and there is no apt-get, dnf or brew to install it with: install it by hand, and run this again"
    fi
    hash -r
    command -v "$command" >/dev/null ||
        fail "$command is still missing after the installation: install it by hand, and run this again"
}

require_redis_server() {
    local version
    # Fedora 41 and RHEL 10 have Valkey in its place, with Redis' command names.
    install_package redis-server redis-server 'redis valkey-compat-redis' redis
    version=$(redis-server --version | sed -nE 's/.*v=([0-9]+)\..*/\1/p')
    if [[ -z $version || $version -lt 7 ]]; then
        fail "Redis 7.0 or later is needed, this is: $(redis-server --version); see https://redis.io/docs/latest/operate/oss_and_stack/install/"
    fi
}

require_rust() {
    # rustup's directory is not in the PATH of a shell that was open before it came.
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    command -v cargo >/dev/null ||
        fail 'the Rust toolchain is missing: install it as https://rustup.rs says, and run this again'
    command -v cc >/dev/null ||
        fail 'a C compiler and linker (cc) is missing, which Rust needs: install gcc or clang (apt-get install build-essential; dnf install gcc; xcode-select --install), and run this again'
}
