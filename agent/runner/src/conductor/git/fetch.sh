# Fetches a repository into the working directory. What it needs is in the environment:
# FETCH_URI, FETCH_REVISION, FETCH_PATHS (one a line), FETCH_CONE, FETCH_VERBOSE, FETCH_SSH_KEY.
# Ends with 91 when trying again is of no use.
umask 002
hopeless() { printf '%s\n' "$1" >&2; exit 91; }
command -v git >/dev/null 2>&1 || hopeless 'git is not installed here; install it on the machine of the agent'
tab=$(printf '\t')
line='
'
private=
for folder in /muster-private /dev/shm /var/tmp; do
  private=$(mktemp -d "$folder/muster-git.XXXXXX" 2>/dev/null) && break
done
[ -n "$private" ] || hopeless 'there is no writable folder for private files: /muster-private, /dev/shm, /var/tmp'
trap 'rm -rf "$private"' EXIT
trap 'exit 143' HUP INT TERM
# Nothing of the machine's user is looked at, and no program that would ask somebody.
export HOME="$private" XDG_CONFIG_HOME="$private" GIT_TERMINAL_PROMPT=0 GIT_ASKPASS= SSH_ASKPASS=
git config --global safe.directory '*'
git config --global init.defaultBranch main
git config --global advice.detachedHead false
# Steps of other users share the repository by their group.
git config --global core.sharedRepository group

ssh="ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o ConnectTimeout=30"
ssh="$ssh -o UserKnownHostsFile=$private/known_hosts -o LogLevel=ERROR"
if [ -n "${FETCH_SSH_KEY:-}" ]; then
  command -v ssh >/dev/null 2>&1 || hopeless 'ssh is not installed here; install it on the machine of the agent'
  (umask 077 && printf '%s\n' "$FETCH_SSH_KEY" | tr -d '\r' >"$private/key")
  unset FETCH_SSH_KEY
  ssh="$ssh -o IdentitiesOnly=yes -i $private/key"
  # ssh refuses users without a name.
  if [ -d /muster-private ] && ! id -un >/dev/null 2>&1; then
    printf 'muster-git:x:%s:%s::/tmp:/bin/sh\n' "$(id -u)" "$(id -g)" >>/etc/passwd || true
  fi
fi
export GIT_SSH_COMMAND="$ssh" GIT_SSH_VARIANT=ssh

[ -e .git ] || git init -q .
rm -f .git/index.lock .git/shallow.lock .git/config.lock
git remote remove origin 2>/dev/null || true
git remote add origin "$FETCH_URI"
quiet=--quiet
[ -z "${FETCH_VERBOSE:-}" ] || quiet=--progress
filter=
if [ -n "${FETCH_PATHS:-}" ]; then
  printf '%s\n' "$FETCH_PATHS" | git sparse-checkout set "$FETCH_CONE" --stdin
  filter=--filter=blob:none
elif [ -f .git/info/sparse-checkout ]; then
  git sparse-checkout disable
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
case $ref in
refs/heads/*)
  branch=${ref#refs/heads/}
  fetch --depth 1 origin "+$ref:refs/remotes/origin/$branch"
  git checkout -q -f -B "$branch" "refs/remotes/origin/$branch"
  ;;
refs/tags/*)
  fetch --depth 1 origin "+$ref:$ref"
  git checkout -q -f --detach "$ref"
  ;;
?*)
  fetch --depth 1 origin "$ref"
  git checkout -q -f --detach FETCH_HEAD
  ;;
*)
  case $revision in
  *[!0-9a-fA-F]* | ? | ?? | ???) hopeless "there is no branch, tag or commit '$revision'" ;;
  esac
  commit=FETCH_HEAD
  if ! fetch --depth 1 origin "$revision" 2>"$private/refused"; then
    # The server gives no single commits, or the name is a short one: all history has it.
    fetch --depth 2147483647 origin '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'
    git cat-file -e "$revision^{commit}" 2>/dev/null || hopeless "there is no branch, tag or commit '$revision'"
    commit=$revision
  fi
  git checkout -q -f --detach "$commit"
  ;;
esac
git --no-pager log -1 --format='%h %s'
