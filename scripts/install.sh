#!/usr/bin/env bash
# Install or upgrade vppd from this checkout as a systemd service. Run it again at will.
#   sudo scripts/install.sh              install, or upgrade; a version that does not become ready is rolled back
#   sudo scripts/install.sh rollback     back to the release before
#   sudo scripts/install.sh uninstall [--purge]    /etc/vppd and /var/lib/vppd stay, unless purged
# Options: --no-start (files, user and groups only), --no-backup (no copy of the journal before an upgrade),
#   --keep-dropins (do not make them anew), --root DIR (stage the files below DIR: no user, no owner, no service).
# Without a network: scripts/setup --wheelhouse on a connected machine, carry ./wheelhouse here. PYTHON names
# the interpreter (3.11 or newer, where the user vppd can reach it).
# Also at /opt/vppd/current/scripts/install.sh, for rollback and uninstall without the checkout; and it is all
# the scripts of the package that scripts/deb makes, by verbs of their own: adopt RELEASE, keep, unkeep.
set -euo pipefail
umask 022
export LC_ALL=C
here=$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd -P)
say() { printf 'install: %s\n' "$*"; }
die() { printf 'install: %s\n' "$*" >&2; exit 1; }

verb=install root="" start=yes backup=yes dropins=yes purge="" given=""
while [ $# -gt 0 ]; do
    case $1 in
        install | rollback | uninstall | keep | unkeep) verb=$1 ;;
        adopt) verb=$1 given=${2:?adopt needs the name of a release}; shift ;;
        --no-start) start="" ;;
        --no-backup) backup="" ;;
        --keep-dropins) dropins="" ;;
        --purge) purge=yes ;;
        --root) mkdir -p "${2:?--root needs a directory}"; root=$(cd "$2" && pwd -P); start="" backup=""; shift ;;
        *) sed -n '2,11s/^# //p' "$0" >&2; exit 2 ;;
    esac
    shift
done

opt=$root/opt/vppd
config=$root/etc/vppd
state=$root/var/lib/vppd
units=$root/etc/systemd/system
accounts=$root/etc/sysusers.d/vppd.conf
catalog=$root/usr/local/lib/systemd/catalog/vppd.catalog
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
    local handed line status=0
    handed=$(mktemp -d)
    for line in "$config"/credentials/*; do
        [ ! -f "$line" ] || ln -sf "$line" "$handed/$(basename "$line" .cred)"
    done
    while IFS= read -r line; do
        line=${line#*=}
        [ -e "${line#*:}" ] && ln -sf "${line#*:}" "$handed/${line%%:*}"
    done < <(cat "$units"/vppd.service.d/*.conf 2>/dev/null | grep -E '^LoadCredential(Encrypted)?=.+:' || true)
    CREDENTIALS_DIRECTORY=$handed "$1/bin/python" -P -m vppd check --config "$config" || status=$?
    rm -rf "$handed"
    return $status
}

opened() { find "$units/vppd.service.d" -name '*.conf' -exec sha256sum {} + 2>/dev/null | sort || true; }

open_for_config() { # $1 a release: what its unit may reach and use is what the configuration names
    [ -n "$dropins" ] || return 0
    "$1/bin/python" -P -m vppd dropins --help >/dev/null 2>&1 || return 0 # of a release before there were any
    "$1/bin/python" -P -m vppd dropins --config "$config" --called /etc/vppd --dir "$units/vppd.service.d" --write |
        sed -n '/^in force after/!s/^/install: /p'
}

install_unit() { # $1 a release
    mkdir -p "$units" "$commands" "$(dirname "$catalog")"
    cp "$1/systemd/vppd.service" "$units/vppd.service"
    if [ -f "$1/systemd/vppd.catalog" ]; then cp "$1/systemd/vppd.catalog" "$catalog"; else rm -f "$catalog"; fi
    local name
    for name in vppd vppctl; do ln -sfn "/opt/vppd/current/bin/$name" "$commands/$name"; done
    know_catalog
    service daemon-reload
}

know_catalog() { # for journalctl -x: what happened, what vppd does by itself, what is left to do
    [ -n "$root" ] || ! command -v journalctl >/dev/null || journalctl --update-catalog 2>/dev/null || true
}

journal_version() { # as the user vppd: root would leave files behind that it cannot open
    [ -e "$state/journal.db" ] || return 0
    runuser -u vppd -- "${1:-$opt/current}/bin/python" -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("PRAGMA user_version").fetchone()[0])' "$state/journal.db" 2>/dev/null || true
}

knows_schema() { # whether release $1 can open the journal as it is; it would refuse to start
    local now newest
    now=$(journal_version "$1")
    newest=$("$1/bin/python" -P -c 'from vppd.spine.schema import STEPS; print(len(STEPS))' 2>/dev/null) || return 0
    [ -n "$now" ] && [ "$now" -gt "$newest" ] || return 0
    say "the journal is of schema $now, $(basename "$1") knows none beyond $newest. Copies from before:"
    find "$state" -maxdepth 1 -name "journal.db.v*" -printf '    %p\n' | sort
    say "to lose what was written since: systemctl stop vppd, move journal.db* aside, copy one to journal.db"
    return 1
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
    local name built=""
    name=$(release_name)
    if [ ! -f "$opt/releases/$name/RELEASE" ]; then
        say "building $name"
        built=yes
        build "$opt/releases/$name"
    fi
    adopt "$name" "$built"
}

adopt() { # $1 a complete release becomes the one that runs; $2 says that it goes away when it is refused
    local name=$1 built=$2 release=$opt/releases/$1 old previous version="" before
    [ -f "$release/RELEASE" ] || die "$name was taken away after it had failed: install its package again"
    old=$(target current)
    previous=$(target previous)
    before=$(opened)
    make_accounts "$release"
    [ -d "$config" ] || fill_config "$release"
    if ! { check_config "$release" && knows_schema "$release" && open_for_config "$release"; }; then
        [ -z "$built" ] || rm -rf "$release"
        die "$name cannot run with $config and $state as they are; nothing was changed${old:+, $(basename "$old") stays}"
    fi
    fill_config "$release"
    if [ "$old" = "releases/$name" ] && [ "$before" = "$(opened)" ] &&
        cmp -s "$release/systemd/vppd.service" "$units/vppd.service" &&
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

# --- for the package: dpkg takes the old release's files away before the new one can be tried ---

keep() { # names of its own for the releases' files; the one that runs goes on from them meanwhile
    local old folder
    old=$(target current)
    case $old in releases/*) ;; *) return 0 ;; esac
    rm -rf "$opt/kept"
    mkdir "$opt/kept"
    for folder in "$old" "$(target previous)"; do
        [ ! -f "$opt/$folder/RELEASE" ] || cp -al "$opt/$folder" "$opt/kept/"
    done
    point current "kept/$(basename "$old")"
}

unkeep() { # and back to where they were
    local folder name
    [ -d "$opt/kept" ] || return 0
    for folder in "$opt"/kept/*/; do
        name=releases/$(basename "$folder")
        [ ! -f "$opt/$name/RELEASE" ] || continue
        rm -rf "${opt:?}/$name"
        mkdir -p "$opt/releases"
        cp -al "$folder" "$opt/$name"
    done
    case $(target current) in kept/*) point current "releases/$(basename "$(target current)")" ;; esac
    rm -rf "$opt/kept"
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
    check_config "$opt/$to" && knows_schema "$opt/$to" ||
        die "$(basename "$to") cannot run with $config and $state as they are; nothing was changed"
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
    rm -f "$units/vppd.service" "$commands/vppd" "$commands/vppctl" "$catalog"
    rm -rf "$opt"
    know_catalog
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
    adopt) unkeep; adopt "$given" "" ;;
    keep) keep ;;
    unkeep) unkeep ;;
    rollback) rollback ;;
    uninstall) uninstall ;;
esac
