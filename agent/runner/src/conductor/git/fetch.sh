# Fetches a repository into a new folder that no step can reach, and lets `checkout.sh` put it in
# its place. What it needs is in the environment: FETCH_URI, FETCH_REVISION, FETCH_PATHS (one a
# line), FETCH_CONE, FETCH_VERBOSE, FETCH_SSH_KEY, FETCH_NO_REDIRECT, FETCH_FOLDER (below the working directory),
# FETCH_CHECKOUT (the other script).
#
# No `.git` that a step may have made is looked at while there are credentials: its hooks and its
# settings name programs. Ends with 91 when trying again is of no use.
umask 002
hopeless() { printf '%s\n' "$1" >&2; exit 91; }
command -v git >/dev/null 2>&1 || hopeless 'git is not installed here; install it on the machine of the agent'
tab=$(printf '\t')
line='
'
unset GIT_DIR GIT_WORK_TREE GIT_COMMON_DIR GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_NAMESPACE \
  GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_TEMPLATE_DIR GIT_CONFIG_PARAMETERS || true
secret=
fresh=
trap 'cd /; rm -rf ${secret:+"$secret"} ${fresh:+"$fresh"}' EXIT
trap 'exit 143' HUP INT TERM
# A new folder of this user alone, in the first place of a list that takes one.
private() {
  for place in "$@"; do mktemp -d "$place/muster-git.XXXXXX" 2>/dev/null && return; done
  hopeless "there is no writable folder for private files: $*"
}
# A key is better in memory, a history on a disk.
secret=$(private /muster-private /dev/shm /var/tmp)
fresh=$(private /muster-private /var/tmp /dev/shm)
# Nothing of the machine's user is looked at, and no program that would ask somebody.
export HOME="$secret" XDG_CONFIG_HOME="$secret" GIT_TERMINAL_PROMPT=0 GIT_ASKPASS= SSH_ASKPASS=
git config --global init.defaultBranch main
git config --global advice.detachedHead false
# Steps of other users share the repository by their group.
git config --global core.sharedRepository group
git config --global core.hooksPath /dev/null
git config --global core.fsmonitor false
git config --global core.attributesFile /dev/null
git config --global submodule.recurse false
# Nothing goes on in the background when this ends.
git config --global gc.auto 0
git config --global maintenance.auto false

ssh="ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout=30"
ssh="$ssh -o UserKnownHostsFile=$secret/known_hosts -o LogLevel=ERROR"
if [ -n "${FETCH_SSH_KEY:-}" ]; then
  command -v ssh >/dev/null 2>&1 || hopeless 'ssh is not installed here; install it on the machine of the agent'
  (umask 077 && printf '%s\n' "$FETCH_SSH_KEY" | tr -d '\r' >"$secret/key")
  unset FETCH_SSH_KEY
  ssh="$ssh -o IdentitiesOnly=yes -i $secret/key"
  # ssh refuses users without a name.
  if [ -d /muster-private ] && ! id -un >/dev/null 2>&1; then
    printf 'muster-git:x:%s:%s::/tmp:/bin/sh\n' "$(id -u)" "$(id -g)" >>/etc/passwd || true
  fi
fi
export GIT_SSH_COMMAND="$ssh" GIT_SSH_VARIANT=ssh

base=$(pwd -P)
mkdir "$fresh/tree"
cd "$fresh/tree"
git init -q --template= .
mkdir -p .git/info
# The machine's own filters, such as that of LFS, would run with the credentials.
printf '* -filter\n' >.git/info/attributes
git remote add origin "$FETCH_URI"
# Some servers lead from a name to the same one with .git; with credentials no server may lead on.
if [ -n "${FETCH_NO_REDIRECT:-}" ]; then
  case $FETCH_URI in
  *.git | *.git/) ;;
  *) case $(git ls-remote origin HEAD 2>&1 >/dev/null || true) in
    *'returned error: 30'*) git remote set-url origin "${FETCH_URI%/}.git" ;;
    esac ;;
  esac
fi
quiet=--quiet
[ -z "${FETCH_VERBOSE:-}" ] || quiet=--progress
filter=
if [ -n "${FETCH_PATHS:-}" ]; then
  printf '%s\n' "$FETCH_PATHS" | git sparse-checkout set "$FETCH_CONE" --stdin
  filter=--filter=blob:none
fi
fetch() { git fetch "$quiet" --force --no-tags --no-recurse-submodules $filter "$@"; }

revision=${FETCH_REVISION:-}
if [ -z "$revision" ]; then
  listed=$(git ls-remote --symref origin HEAD)
  [ -n "$listed" ] || hopeless 'the repository is empty'
  case $listed in
  "ref: "*"${tab}HEAD"*)
    ref=${listed#ref: }
    ref=${ref%%"$tab"*}
    ;;
  *) ref=HEAD ;;
  esac
else
  listed=$line$(git ls-remote origin "refs/heads/$revision" "refs/tags/$revision" "$revision")$line
  ref=
  for one in "refs/heads/$revision" "refs/tags/$revision" "$revision"; do
    case $listed in *"$tab$one$line"*) ref=$one; break ;; esac
  done
fi
branch=
start=FETCH_HEAD
case $ref in
refs/heads/*)
  branch=${ref#refs/heads/}
  start=refs/remotes/origin/$branch
  fetch --depth 1 origin "+$ref:$start"
  ;;
refs/tags/*)
  start=$ref
  fetch --depth 1 origin "+$ref:$ref"
  ;;
?*) fetch --depth 1 origin "$ref" ;;
*)
  case $revision in
  *[!0-9a-fA-F]* | ? | ?? | ???) hopeless "there is no branch, tag or commit '$revision'" ;;
  esac
  if ! fetch --depth 1 origin "$revision" 2>"$secret/refused"; then
    # The server gives no single commits, or the name is a short one: all history has it.
    fetch --depth 2147483647 origin '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'
    git cat-file -e "$revision^{commit}" 2>/dev/null || hopeless "there is no branch, tag or commit '$revision'"
    start=$revision
  fi
  ;;
esac
# The files of wanted paths come now, while there are credentials.
[ -z "$filter" ] || git checkout -q -f --detach "$start"
rm -f .git/index .git/info/attributes
mv .git "$fresh/git"
cd "$base"
rm -rf "$fresh/tree" "$secret"
# In the place of this process: what is in its environment is gone then.
exec env -i PATH="$PATH" HOME="$fresh" XDG_CONFIG_HOME="$fresh" FETCHED="$fresh" \
  FETCHED_FOLDER="$FETCH_FOLDER" FETCHED_BRANCH="$branch" FETCHED_START="$start" \
  sh -e -c "$FETCH_CHECKOUT"
