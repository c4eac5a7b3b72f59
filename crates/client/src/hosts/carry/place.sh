# Places the program that standard input brings: run with the path and the SHA-256 that it has to have. It has its name
# only once it is whole, durable and runs here.
path=$1 wanted=$2
directory=${path%/*}
[ -n "$directory" ] || directory=/

umask 022
mkdir -p "$directory" || exit 3
staged=$(mktemp "$directory/.smart-sync-XXXXXX") || exit 3
trap 'rm -f "$staged"' EXIT
trap 'exit 1' HUP INT TERM
cat >"$staged" || exit 3
found=$(sha256sum <"$staged") || exit 2
if [ "${found%% *}" != "$wanted" ]; then
    echo "what arrived is not what was sent" >&2
    exit 7
fi
chmod 755 "$staged" || exit 3
if ! "$staged" --version </dev/null >/dev/null; then
    echo "the program does not run there" >&2
    exit 1
fi
sync "$staged" 2>/dev/null || sync
if [ -d "$path" ]; then
    echo "$path is a directory" >&2
    exit 1
fi
mv -f "$staged" "$path" || exit 3
sync "$directory" 2>/dev/null || sync
trap - EXIT
printf 'smart-sync:placed %s\n' "$wanted"
