#!/bin/sh
# Installs PostgreSQL and Redis for `make test-distributed` where they are missing, from Debian's packages (Ubuntu's as well).
# Programs only: no database cluster is made, no service is started now or at the next boot.
set -eu

installed() {
  { command -v postgres || ls /usr/lib/postgresql/*/bin/postgres; } >/dev/null 2>&1 && command -v redis-server >/dev/null
}

installed && exit 0
if ! command -v apt-get >/dev/null; then
  echo "install_services.sh: no apt-get here; install PostgreSQL (initdb, postgres, pg_isready) and redis-server yourself" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  exec sudo sh "$0"
fi

policy=/usr/sbin/policy-rc.d
clusters=/etc/postgresql-common/createcluster.d/revox-tests.conf
new_policy=
had_redis=$(command -v redis-server || true)
# shellcheck disable=SC2317
tidy() {
  rm -f "$clusters"
  rmdir "$(dirname "$clusters")" 2>/dev/null || true
  [ -z "$new_policy" ] || rm -f "$policy"
}
trap tidy EXIT
trap 'exit 130' INT TERM

# Debian's packages ask this program whether they may start what they bring; some machines have one that says no already.
if [ ! -e "$policy" ]; then
  new_policy=1
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
mkdir -p "$(dirname "$clusters")"
echo "create_main_cluster = false" >"$clusters"

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends postgresql redis-server >/dev/null
if [ -z "$had_redis" ] && [ -d /run/systemd/system ]; then
  systemctl --quiet disable redis-server || true
fi
installed
