# shellcheck shell=bash
# Functions for the other scripts: they print messages, install tools that are missing, and read
# settings and log lines. The scripts source this file. It does nothing by itself.

# With CDPATH, `cd` may go to another directory, and prints it.
unset CDPATH

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# misused MESSAGE: ends the script because its arguments are wrong.
misused() {
    printf 'error: %s; see %s --help\n' "$*" "$0" >&2
    exit 2
}

# quoted TEXT: prints TEXT as one word for any shell, with quotes only where it needs them.
quoted() {
    if [[ $1 =~ ^[A-Za-z0-9_./:@%+,=-]+$ ]]; then
        printf '%s' "$1"
    else
        printf "'%s'" "${1//\'/\'\\\'\'}"
    fi
}

# is_secret NAME VALUE: whether the value of a variable may be a secret, and must not be shown.
is_secret() {
    local name
    name=$(printf '%s' "$1" | tr '[:lower:]' '[:upper:]')
    case $name in
    *_FILE) return 1 ;;
    *PASS* | *SECRET* | *TOKEN* | *KEY*) return 0 ;;
    esac
    # An address can contain a password. This also catches forms that the programs do not accept.
    [[ $name == *ADDR && ($2 == *@* || $2 == *pass*) ]]
}

# overrides: prints the variables that are set for the programs, as words in front of a command. A
# value that may be a secret is shown as three dots.
overrides() {
    local name value
    while IFS= read -r name; do
        value=${!name}
        if [[ -n $value ]]; then
            if is_secret "$name" "$value"; then value='…'; fi
            printf '%s=%s ' "$name" "$(quoted "$value")"
        fi
    done < <(compgen -e | grep -E '^(APP_ENV|CONFIG_DIR|REDIS_JOBQUEUE_ADDR|APP__.*)$' | sort)
}

# listening_at LOG: prints the first address at which a program can be reached. The program's log
# says it, as text or as JSON.
listening_at() {
    local host='\[[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?\]|[A-Za-z0-9._-]+'
    sed -nE '/listening/s/.*[ {,"]addr"?[=:] ?(\["?|")?('"$host"'):([0-9]+)([]", }].*)?$/\2:\4/p' "$1" |
        sed -nE '1{s/^0\.0\.0\.0:/127.0.0.1:/; s/^\[::\]:/localhost:/;p;}'
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

# install_package COMMAND APT DNF BREW: installs the package of COMMAND when COMMAND is missing. APT,
# DNF and BREW are the package's names. DNF may be a list, which is tried name by name, because the
# distributions with dnf have different names.
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
    # Fedora 41 and RHEL 10 have Valkey instead. valkey-compat-redis brings Redis' command names.
    install_package redis-server redis-server 'redis valkey-compat-redis' redis
    version=$(redis-server --version | sed -nE 's/.*v=([0-9]+)\..*/\1/p')
    if [[ -z $version || $version -lt 7 ]]; then
        fail "Redis 7.0 or later is needed, this is: $(redis-server --version); see https://redis.io/docs/latest/operate/oss_and_stack/install/"
    fi
}

require_rust() {
    # A shell that was opened before rustup was installed does not have its directory in PATH.
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    command -v cargo >/dev/null ||
        fail 'the Rust toolchain is missing: install it as https://rustup.rs says, and run this again'
    command -v cc >/dev/null ||
        fail 'a C compiler and linker (cc) is missing, which Rust needs: install gcc or clang (apt-get install build-essential; dnf install gcc; xcode-select --install), and run this again'
}
