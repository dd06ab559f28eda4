# Shared by ./lab, ./demo, ./test and perf/compare; meant to be sourced, never run.
#
#   require_linux_root            stops with a plain sentence where the scripts cannot work
#   require_dotnet                the .NET 10 SDK is the one thing that is not installed for you
#   require_tools ip clang …      installs, with apt, what is missing of the named tools
#   build_release project         builds one project or the solution; no build server stays behind
#
# Messages go to stderr, so that the output of the caller stays its own.

say()  { printf '%s: %s\n' "${PROGRAM:-${0##*/}}" "$*" >&2; }
fail() { say "$*"; exit 1; }

# The Debian package that brings a tool. Names with a slash are files that packages without a binary are known by.
package_of() {
  case $1 in
    ip|tc|ss|nstat)              echo iproute2 ;;
    taskset|nsenter)             echo util-linux ;;
    clang|ethtool|curl|wrk|bpftool|openssl) echo "$1" ;;
    h2load)                      echo nghttp2-client ;;
    nft)                         echo nftables ;;
    iptables-legacy)             echo iptables ;;
    llvm-strip)                  echo llvm ;;
    qemu-system-x86_64)          echo qemu-system-x86 ;;
    busybox)                     echo busybox-static ;;
    /usr/include/bpf/*)          echo libbpf-dev ;;
    /usr/include/linux/*)        echo linux-libc-dev ;;
    *) fail "no package is known for '$1'" ;;
  esac
}

# What the build needs: clang compiles bpf/ and the object is embedded in the assembly.
BUILD_TOOLS=(clang /usr/include/bpf/bpf_helpers.h /usr/include/linux/bpf.h)
# What the lab needs.
LAB_TOOLS=(ip ss ethtool)
# What scripts/zero-copy-guest needs besides.
# shellcheck disable=SC2034
GUEST_TOOLS=(qemu-system-x86_64 busybox)

present() {
  case $1 in
    /*) [ -e "$1" ] ;;
    *)  command -v "$1" >/dev/null 2>&1 ;;
  esac
}

require_linux_root() {
  [ "$(uname -s)" = Linux ] || fail "AF_XDP and network namespaces exist on Linux only; this is $(uname -s)"
  [ "$(id -u)" = 0 ] || fail "network namespaces and XDP need root: run it again as root (sudo $0)"
  case ":$PATH:" in *:/usr/sbin:*) ;; *) PATH=$PATH:/usr/sbin:/sbin ;; esac
}

require_dotnet() {
  export DOTNET_NOLOGO=1 DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_SKIP_FIRST_TIME_EXPERIENCE=1
  command -v dotnet >/dev/null 2>&1 ||
    fail "the .NET 10 SDK is not on PATH; install it from https://dotnet.microsoft.com/download/dotnet/10.0"
  dotnet --list-sdks | grep -q '^10\.' ||
    fail "the .NET 10 SDK is needed; there is only: $(dotnet --list-sdks | cut -d' ' -f1 | tr '\n' ' ')"
}

require_tools() {
  local tool package missing=() packages=()
  for tool in "$@"; do
    ! present "$tool" || continue
    package=$(package_of "$tool") || exit 1
    missing+=("$tool") packages+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0

  local names; names=$(printf '%s\n' "${packages[@]}" | sort -u | tr '\n' ' ')
  # shellcheck disable=SC1091
  ( . /etc/os-release 2>/dev/null; case "${ID:-} ${ID_LIKE:-}" in *debian*) ;; *) exit 1 ;; esac ) ||
    fail "missing: ${missing[*]}. Only on Debian and its relatives are they installed for you. Packages: $names"
  [ "$(id -u)" = 0 ] || fail "missing: ${missing[*]}. Installing them needs root (packages: $names)"

  say "installing $names"
  local log; log=$(mktemp)
  # shellcheck disable=SC2086
  if ! { install_packages $names || { apt-get update -q && install_packages $names; }; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    fail "apt-get could not install $names(its last lines are above)"
  fi
  rm -f "$log"
  hash -r
  for tool in "${missing[@]}"; do
    present "$tool" || fail "$(package_of "$tool") is installed, but '$tool' is still not there"
  done
}

install_packages() {
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

build_release() {
  dotnet msbuild "$1" -restore -p:Configuration=Release -v:minimal -nologo \
    -nodeReuse:false -p:UseSharedCompilation=false ||
    fail "the build of $1 failed"
}
