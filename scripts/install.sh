#!/usr/bin/env bash
# Install or upgrade vppd from this checkout as a systemd service. Run it again at will.
#   sudo scripts/install.sh              install, or upgrade; a version that does not become ready is rolled back
#   sudo scripts/install.sh rollback     back to the release before
#   sudo scripts/install.sh uninstall [--purge]    /etc/vppd and /var/lib/vppd stay, unless purged
# Options: --no-start (files, user and groups only), --no-backup (no copy of the journal before an upgrade),
#   --root DIR (stage the files below DIR: no user, no owner, no service).
# Without a network: scripts/setup --wheelhouse on a connected machine, carry ./wheelhouse here. PYTHON names
# the interpreter (3.11 or newer, where the user vppd can reach it).
# Also at /opt/vppd/current/scripts/install.sh, for rollback and uninstall without the checkout.
set -euo pipefail
umask 022
export LC_ALL=C
here=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd -P)
say() { printf 'install: %s\n' "$*"; }
die() { printf 'install: %s\n' "$*" >&2; exit 1; }

verb=install root="" start=yes backup=yes purge=""
while [ $# -gt 0 ]; do
    case $1 in
        install | rollback | uninstall) verb=$1 ;;
        --no-start) start="" ;;
        --no-backup) backup="" ;;
        --purge) purge=yes ;;
        --root) mkdir -p "${2:?--root needs a directory}"; root=$(cd "$2" && pwd -P); start="" backup=""; shift ;;
        *) sed -n '2,10s/^# //p' "$0" >&2; exit 2 ;;
    esac
    shift
done

opt=$root/opt/vppd
config=$root/etc/vppd
state=$root/var/lib/vppd
units=$root/etc/systemd/system
accounts=$root/etc/sysusers.d/vppd.conf
commands=$root/usr/local/bin

# --- what must be so before anything is touched ---

if [ -z "$root" ]; then
    [ "$(id -u)" = 0 ] || die "must be root: sudo $0 $verb (or --root DIR to stage the files only)"
    [ -z "$start" ] || [ -d /run/systemd/system ] ||
        die "systemd does not run this machine; --no-start installs the files only"
    [ -n "$start" ] || ! systemctl is-active --quiet vppd 2>/dev/null ||
        die "vppd runs: without --no-start, or stop it first"
fi
mkdir -p "$opt"
exec 9>>"$opt/.lock"
flock -n 9 || die "another install.sh is at work"

service() { [ -z "$start" ] || systemctl "$@"; }

# --- releases: one folder each, never changed once complete ---

release_name() { # the commit when the tree is clean, else a hash of what would be installed
    local version commit
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml | head -n 1)
    if commit=$(git rev-parse --short=10 HEAD 2>/dev/null) && [ -z "$(git status --porcelain 2>/dev/null)" ]; then
        echo "$version-g$commit"
    else
        echo "$version-h$(find pyproject.toml README.md LICENSE vppd etc systemd scripts -type f \
            -not -name '*.pyc' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c -10)"
    fi
}

find_python() { # not one in a home: ProtectHome hides it from the service
    local name prefix
    for name in ${PYTHON:+"$PYTHON"} /usr/bin/python3 /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 \
        /usr/local/bin/python3; do
        prefix=$("$name" -c 'import os, sys; assert sys.version_info >= (3, 11); print(os.path.realpath(sys.base_prefix))' \
            2>/dev/null) || continue
        case $prefix in /root/* | /home/* | /run/user/*) [ -n "$root" ] || continue ;; esac
        "$name" -c 'import ensurepip, venv' 2>/dev/null || die "$name cannot make environments: apt-get install python3-venv"
        echo "$name"
        return
    done
    die "needs Python 3.11 or newer outside of home directories: apt-get install python3 python3-venv"
}

build() { # $1 a release folder
    local python source wheels=()
    python=$(find_python)
    [ ! -d wheelhouse ] || wheels=(--no-index --find-links "$here/wheelhouse")
    source=$(mktemp -d)
    cp -R pyproject.toml README.md LICENSE vppd etc "$source" # a copy: nothing old from build/, nothing written here
    find "$source" -name __pycache__ -prune -exec rm -r {} +
    rm -rf "$1"
    mkdir -p "$(dirname "$1")"
    if ! { "$python" -m venv "$1" && PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
        "$1/bin/python" -m pip install -qq -c scripts/constraints.txt "${wheels[@]}" "$source"; }; then
        rm -rf "$1" "$source"
        die "the release could not be built; nothing was changed"
    fi
    rm -rf "$source"
    mkdir -p "$1/scripts" "$1/etc"
    cp README.md LICENSE "$1"
    cp -R systemd "$1"
    cp -R etc/vppd "$1/etc"
    cp scripts/install.sh "$1/scripts"
    # staged: the folder will be called /opt/vppd/... on the machine it runs on
    [ -z "$root" ] || grep -rlI "$root/opt/vppd" "$1/bin" "$1/pyvenv.cfg" | xargs -r sed -i "s#$root/opt/vppd#/opt/vppd#g"
    chmod -R u+rwX,go+rX,go-w "$1"
    echo "$(basename "$1") $(date -u +%FT%TZ) $("$python" --version)" >"$1/RELEASE" # written last: it is complete
}

target() { readlink "$opt/$1" 2>/dev/null || true; }

point() { # link $1 to release $2, or away with it, in one step
    if [ -z "$2" ]; then rm -f "$opt/$1"; return; fi
    ln -sfn "$2" "$opt/.$1"
    mv -T "$opt/.$1" "$opt/$1"
}

# --- the machine around it ---

make_accounts() {
    mkdir -p "$(dirname "$accounts")"
    cmp -s "$1/systemd/vppd.sysusers" "$accounts" || cp "$1/systemd/vppd.sysusers" "$accounts"
    [ -z "$root" ] || return 0
    if command -v systemd-sysusers >/dev/null; then
        systemd-sysusers "$accounts"
    else
        local group
        for group in vppd vppd-viewers vppd-operators; do getent group $group >/dev/null || groupadd --system $group; done
        getent passwd vppd >/dev/null ||
            useradd --system --gid vppd --home-dir /var/lib/vppd --no-create-home --shell /usr/sbin/nologin vppd
        usermod -aG vppd,vppd-viewers vppd
    fi
}

own() { [ -n "$root" ] || chown "$@"; }

fill_config() { # $1 a release; what is there is the operator's and stays
    local file name fresh=""
    [ -d "$config" ] || fresh=yes
    mkdir -p "$config"
    while IFS= read -r name; do
        file=$config/$name
        mkdir -p "$(dirname "$file")"
        if [ -n "$fresh" ]; then
            cp "$1/etc/vppd/$name" "$file"
        elif ! cmp -s "$1/etc/vppd/$name" "$file"; then
            file=$file.example
            cmp -s "$1/etc/vppd/$name" "$file" || { cp "$1/etc/vppd/$name" "$file"; say "new example: $file"; }
        else
            continue
        fi
        chmod 640 "$file"
        own root:vppd "$file"
    done < <(cd "$1/etc/vppd" && find . -type f -printf '%P\n' | sort)
    find "$config" -name credentials -prune -o -type d -print | while IFS= read -r file; do
        chmod 750 "$file"
        own root:vppd "$file"
    done
}

check_config() { # $1 a release; the credentials that the unit would be given are there by name
    local given line status=0
    given=$(mktemp -d)
    while IFS= read -r line; do
        line=${line#*=}
        [ -e "${line#*:}" ] && ln -sf "${line#*:}" "$given/${line%%:*}"
    done < <(cat "$units"/vppd.service.d/*.conf 2>/dev/null | grep -E '^LoadCredential(Encrypted)?=.+:' || true)
    CREDENTIALS_DIRECTORY=$given "$1/bin/python" -P -m vppd check --config "$config" || status=$?
    rm -rf "$given"
    return $status
}

install_unit() { # $1 a release
    mkdir -p "$units" "$commands"
    cp "$1/systemd/vppd.service" "$units/vppd.service"
    local name
    for name in vppd vppctl; do ln -sfn "/opt/vppd/current/bin/$name" "$commands/$name"; done
    service daemon-reload
}

journal_version() { # as the user vppd: root would leave files behind that it cannot open
    [ -e "$state/journal.db" ] || return 0
    runuser -u vppd -- "$opt/current/bin/python" -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("PRAGMA user_version").fetchone()[0])' "$state/journal.db" 2>/dev/null || true
}

backup_journal() { # while the daemon runs; SQLite's own copy is consistent
    [ -e "$state/journal.db" ] || return 0
    say "copying the journal to $state/journal.db.upgrade"
    if runuser -u vppd -- "$opt/current/bin/python" -P -m vppd backup --help >/dev/null 2>&1; then
        runuser -u vppd -- "$opt/current/bin/python" -P -m vppd backup "$state/journal.db.upgrade" --state "$state" ||
            die "the journal could not be copied; nothing was changed (--no-backup goes without)"
        return
    fi
    runuser -u vppd -- "$opt/current/bin/python" -c 'import os, shutil, sqlite3, sys
path = sys.argv[1]
room, size = shutil.disk_usage(os.path.dirname(path)).free, os.path.getsize(path)
if room < 1.2 * size:
    sys.exit(f"needs {1.2 * size / 1e6:.0f} MB, {room / 1e6:.0f} MB are free")
target = sqlite3.connect(path + ".upgrade.part")
sqlite3.connect(path).backup(target)
target.close()
os.replace(path + ".upgrade.part", path + ".upgrade")' "$state/journal.db" ||
        die "the journal could not be copied; nothing was changed (--no-backup goes without)"
}

restore_journal() { # $1 the schema version before: a release that failed may have brought it further
    local now copy
    now=$(journal_version)
    [ -n "$1" ] && [ -n "$now" ] && [ "$now" != "$1" ] || return 0
    # the migration's own copy first: it was made last, with the daemon stopped
    copy=$(find "$state" -maxdepth 1 \( -name "journal.db.v$1-*" -o -name journal.db.upgrade \) -newer "$opt/.lock" \
        -printf '%T@ %p\n' | sort -rn | head -n 1 | cut -d' ' -f2-)
    [ -n "$copy" ] || return 0
    say "the journal is of schema $now, the release before needs $1: putting back $copy"
    local name
    for name in journal.db journal.db-wal journal.db-shm; do
        [ ! -e "$state/$name" ] || mv "$state/$name" "$state/${name/journal.db/journal.db.schema-$now}"
    done
    cp -p "$copy" "$state/journal.db"
}

comes_up() { # Type=notify: start returns when the daemon said READY, or failed
    began=$(date '+%F %T')
    service reset-failed vppd 2>/dev/null || true
    service start vppd || return 1
    local pid
    pid=$(systemctl show vppd --property MainPID --value)
    sleep 2 # and it is still the same process a moment later
    systemctl is-active --quiet vppd && [ "$(systemctl show vppd --property MainPID --value)" = "$pid" ]
}

switch() { # $1 becomes current and $2 previous. The daemon is stopped before: it says 0 kW, and imports nothing of the new
    service stop vppd 2>/dev/null || true
    point current "$1"
    point previous "$2"
    install_unit "$opt/$1"
}

last_words() { # not --lines: with --since it counts from the front
    journalctl --sync 2>/dev/null || true
    journalctl --unit vppd --since "$began" --no-pager --output cat 2>/dev/null | tail -n 30 | sed 's/^/    /' || true
}

# --- verbs ---

install_release() {
    cd "$here"
    [ -f pyproject.toml ] || die "this is not a checkout: only rollback and uninstall work from here"
    local name release built="" old previous version=""
    name=$(release_name)
    release=$opt/releases/$name
    old=$(target current)
    previous=$(target previous)
    if [ ! -f "$release/RELEASE" ]; then
        say "building $name"
        built=yes
        build "$release"
    fi
    make_accounts "$release"
    [ -d "$config" ] || fill_config "$release"
    if ! check_config "$release"; then
        [ -z "$built" ] || rm -rf "$release"
        die "$name refuses the configuration in $config; nothing was changed${old:+, $(basename "$old") stays}"
    fi
    fill_config "$release"
    if [ "$old" = "releases/$name" ] && cmp -s "$release/systemd/vppd.service" "$units/vppd.service" &&
        { [ -z "$start" ] || systemctl is-active --quiet vppd; }; then
        service enable --quiet vppd
        say "$name is installed${start:+ and runs}: nothing to do"
        return
    fi
    if [ -z "$start" ]; then
        if [ "$old" = "releases/$name" ]; then old=$previous; fi
        switch "releases/$name" "$old"
        say "$name is installed and not started; later: systemctl enable --now vppd"
        return
    fi
    if [ -n "$old" ] && [ "$old" != "releases/$name" ]; then
        touch "$opt/.lock" # what is newer belongs to this upgrade
        version=$(journal_version)
        [ -z "$backup" ] || backup_journal
        switch "releases/$name" "$old"
    else
        old=""
        switch "releases/$name" "$previous"
    fi
    service enable --quiet vppd
    if comes_up; then
        prune
        rm -f "$state/journal.db.upgrade"
        say "$name runs. People: usermod -aG vppd-viewers NAME; operators also: -aG vppd-operators"
        return
    fi
    say "$name did not become ready:"
    last_words
    service stop vppd 2>/dev/null || true
    [ -n "$old" ] || die "there is no release before it; mend the cause and run this again"
    switch "$old" "$previous"
    restore_journal "$version"
    if comes_up; then
        prune
        rm -f "$state/journal.db.upgrade"
        die "rolled back: $(basename "$old") runs again"
    fi
    last_words
    die "rolled back to $(basename "$old"), which does not become ready either"
}

prune() { # all but current and previous
    local folder
    for folder in "$opt"/releases/*/; do
        folder=releases/$(basename "$folder")
        case $folder in "$(target current)" | "$(target previous)") ;; *) rm -rf "${opt:?}/$folder" ;; esac
    done
}

rollback() {
    local from to
    from=$(target current)
    to=$(target previous)
    [ -n "$to" ] && [ -f "$opt/$to/RELEASE" ] || die "there is no release before ${from:-none}"
    check_config "$opt/$to" || die "$(basename "$to") refuses the configuration in $config; nothing was changed"
    switch "$to" "$from"
    if [ -z "$start" ]; then say "$(basename "$to") is installed and not started"; return; fi
    if comes_up; then say "$(basename "$to") runs; rollback again returns to $(basename "$from")"; return; fi
    last_words
    switch "$from" "$to"
    comes_up || die "neither $(basename "$to") nor $(basename "$from") becomes ready"
    die "$(basename "$to") did not become ready; $(basename "$from") runs again"
}

uninstall() {
    service disable --now --quiet vppd 2>/dev/null || true
    rm -f "$units/vppd.service" "$commands/vppd" "$commands/vppctl"
    rm -rf "$opt"
    service daemon-reload
    if [ -z "$purge" ]; then say "removed; $config and $state are kept (--purge removes them)"; return; fi
    rm -rf "$config" "$state" "$units/vppd.service.d" "$accounts"
    if [ -z "$root" ]; then
        local group
        userdel vppd 2>/dev/null || true
        for group in vppd-viewers vppd-operators vppd; do groupdel $group 2>/dev/null || true; done
    fi
    say "removed with configuration, journal, user and groups"
}

case $verb in
    install) install_release ;;
    rollback) rollback ;;
    uninstall) uninstall ;;
esac
