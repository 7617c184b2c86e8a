# Puts a fetched repository in its place. Knows no credentials: files of steps lie around.
# FETCHED is its folder, FETCHED_FOLDER the target below the working directory.
# Ends with 91 when trying again is of no use.
umask 002
hopeless() { printf '%s\n' "$1" >&2; exit 91; }
placed=
trap 'rm -rf "$FETCHED" ${placed:+"$placed"}' EXIT
trap 'exit 143' HUP INT TERM
base=$(pwd -P)
left=$FETCHED_FOLDER
while [ -n "$left" ]; do
  part=${left%%/*}
  case $left in */*) left=${left#*/} ;; *) left= ;; esac
  [ ! -L "./$part" ] || hopeless "the folder '$part' is a link, which is not followed: remove it"
  [ -d "./$part" ] || mkdir "./$part"
  cd "./$part"
done
# Somebody may have been faster.
[ "$(pwd -P)" = "${base%/}${FETCHED_FOLDER:+/$FETCHED_FOLDER}" ] ||
  hopeless "a folder on the way to '$FETCHED_FOLDER' is a link, which is not followed"

export GIT_CONFIG_NOSYSTEM=1 GIT_NO_LAZY_FETCH=1 GIT_TERMINAL_PROMPT=0
export GIT_DIR="$FETCHED/git" GIT_WORK_TREE=.
git() {
  command git -c core.hooksPath=/dev/null -c core.fsmonitor=false -c core.attributesFile=/dev/null \
    -c submodule.recurse=false -c advice.detachedHead=false -c gc.auto=0 -c maintenance.auto=false "$@"
}
if [ -n "$FETCHED_BRANCH" ]; then
  git checkout -q -f -B "$FETCHED_BRANCH" "$FETCHED_START"
else
  git checkout -q -f --detach "$FETCHED_START"
fi
git --no-pager log -1 --format='%h %s'
# A name that nobody knows, so that nobody has put a link there.
placed=$(mktemp -d ./.git.XXXXXX)
cp -R "$FETCHED/git/." "$placed"
chmod g+rwxs,o+rx "$placed"
rm -rf .git
mv -T "$placed" .git
placed=
