# Sourced by Scripts/dit and Scripts/test: installs the system packages this package builds with, if any is missing.

required_packages=(libopenblas-dev liblapacke-dev libpng-dev libjpeg62-turbo-dev libwebp-dev libfreetype-dev
  libfontconfig-dev zlib1g-dev pkg-config)

install_missing_packages() {
  if ! command -v swift >/dev/null; then
    echo "error: swift was not found; install Swift 6.3 or later (https://www.swift.org/install) and try again" >&2
    exit 1
  fi
  if ! command -v dpkg-query >/dev/null; then
    echo "note: not a Debian system; OpenBLAS, LAPACKE, libpng, libjpeg-turbo, libwebp, FreeType, fontconfig, zlib and pkg-config must be there already" >&2
    return
  fi
  local missing=() package
  for package in "${required_packages[@]}"; do
    # pkgconf provides pkg-config on newer systems, so the command counts, not the package.
    if [ "$package" = pkg-config ] && command -v pkg-config >/dev/null; then continue; fi
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing ${missing[*]}" >&2
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
  {
    "${sudo[@]}" apt-get update -q &&
      "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  } >&2 </dev/null || {
    echo "error: could not install ${missing[*]}" >&2
    exit 1
  }
}
