# What a host has of smart-sync: run with the path at which it would be installed. Each line of the answer is a word and
# its value. Nothing is changed.
say() { printf 'smart-sync:%s %s\n' "$1" "$2"; }

# The package that a file is of, by whichever package manager knows it.
owner() {
    real=$(readlink -f "$1" 2>/dev/null) || real=$1
    case $real in
    /nix/store/* | /gnu/store/*)
        store=${real#/*/*/}
        printf %s "${store%%/*}"
        return
        ;;
    esac
    for file in "$1" "$real"; do
        if package=$(dpkg-query -S "$file" 2>/dev/null); then printf %s "${package%%:*}"; return; fi
        if package=$(rpm -qf "$file" 2>/dev/null); then printf %s "$package"; return; fi
        if package=$(pacman -Qqo "$file" 2>/dev/null); then printf %s "$package"; return; fi
        if package=$(apk info -qW "$file" 2>/dev/null) && [ -n "$package" ]; then printf %s "$package"; return; fi
        package=$(grep -lF "obj $file " /var/db/pkg/*/*/CONTENTS 2>/dev/null) || continue
        package=${package#/var/db/pkg/}
        printf %s "${package%%/CONTENTS*}"
        return
    done
}

# What stands at a path: KIND, what it is called in the answer.
file() {
    if [ -d "$2" ]; then say "$1-kind" directory; return; fi
    if [ ! -f "$2" ]; then [ ! -e "$2" ] || say "$1-kind" other; return; fi
    say "$1-kind" file
    say "$1-path" "$2"
    sum=$(sha256sum <"$2" 2>/dev/null) && say "$1-sum" "${sum%% *}"
    version=$("$2" --version </dev/null 2>/dev/null) && say "$1-version" "$version"
    package=$(owner "$2") && [ -n "$package" ] && say "$1-owner" "$package"
}

say system "$(uname -s)"
say machine "$(uname -m)"
if command -v sha256sum >/dev/null 2>&1; then say sums yes; fi
file there "$1"
found=$(command -v smart-sync 2>/dev/null)
case $found in
"$1") ;;
/*) file found "$found" ;;
esac
say end yes
