#!/usr/bin/env bash
# arm64.sh FOLDER: builds the C client for ARM64 into FOLDER, with all that it takes to run it under qemu.
#
#   FOLDER/sysroot             Debian's arm64 libraries, and a /proc/cpuinfo of an ARM processor
#   FOLDER/libLiteRt.so        LiteRT for Linux on ARM64, out of the wheel of ai-edge-litert
#   FOLDER/fedkeys_client      the program, FOLDER/build/libfedkeys.so the library
#   FOLDER/build/protocol_peer the process that the tests of the protocol ask
#
# It takes qemu-user-static, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, and fetches from Debian and PyPI.
set -euo pipefail
cd "$(dirname "$0")/.."
die() { echo "arm64: $*" >&2; exit 2; }
folder=$(mkdir -p "$1" && cd "$1" && pwd)
LITERT=$(sed -n 's/^#define LITERT_VERSION "\(.*\)"$/\1/p' edge/clients/c/litert.h)
PYTHON=${PYTHON:-.venv/bin/python}

for tool in qemu-aarch64-static aarch64-linux-gnu-gcc apt-get dpkg-deb pkg-config unzip; do
  command -v "$tool" > /dev/null ||
    die "$tool not found: apt install qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross pkg-config unzip"
done

# Debian's packages for ARM64, without making this system one of two architectures: apt gets a state of its own.
if [ ! -f "$folder/sysroot/.complete" ]; then
  rm -rf "$folder/sysroot" "$folder/apt"
  mkdir -p "$folder/sysroot/usr/lib" "$folder/apt/lists/partial" "$folder/apt/archives/partial"
  touch "$folder/apt/status"
  apt="apt-get -qq -o Dir::State=$folder/apt -o Dir::State::status=$folder/apt/status -o Dir::Cache=$folder/apt \
    -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=$(id -un)"
  $apt update
  (cd "$folder/apt" && $apt download libssl3 libssl-dev libpcre2-8-0 libpcre2-dev libutf8proc2 libutf8proc-dev)
  for package in "$folder"/apt/*.deb; do dpkg-deb -x "$package" "$folder/sysroot"; done
  # Its own libc is that of the cross compiler.
  ln -s /usr/aarch64-linux-gnu/lib "$folder/sysroot/lib"
  touch "$folder/sysroot/.complete"
fi

# LiteRT looks up the processor in /proc/cpuinfo, and crashes on one that describes another kind: this is a Cortex-A76
# for each processor that /sys shows.
mkdir -p "$folder/sysroot/proc"
for cpu in $(seq 0 $(($(find /sys/devices/system/cpu -maxdepth 1 -name 'cpu[0-9]*' | wc -l) - 1))); do
  printf 'processor\t: %s\nBogoMIPS\t: 38.40\n' "$cpu"
  printf 'Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n'
  printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0b\nCPU revision\t: 0\n\n'
done > "$folder/sysroot/proc/cpuinfo"

if [ ! -f "$folder/libLiteRt.so" ]; then
  "$PYTHON" -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: \
    --platform manylinux_2_27_aarch64 -d "$folder" "ai-edge-litert==$LITERT"
  unzip -qqjo "$folder"/ai_edge_litert-*.whl ai_edge_litert/libLiteRt.so -d "$folder"
  rm "$folder"/ai_edge_litert-*.whl
fi

# pkg-config answers for the sysroot alone.
export PKG_CONFIG_SYSROOT_DIR=$folder/sysroot
export PKG_CONFIG_LIBDIR=$folder/sysroot/usr/lib/aarch64-linux-gnu/pkgconfig:$folder/sysroot/usr/share/pkgconfig
make -s -C edge/clients/c CC=aarch64-linux-gnu-gcc AR=aarch64-linux-gnu-ar BUILD="$folder/build" LITERT=libLiteRt.so \
  CFLAGS="-O2 -isystem $folder/sysroot/usr/include/aarch64-linux-gnu" all protocol-peer
cp "$folder/build/fedkeys_client" "$folder/.fedkeys_client" && mv "$folder/.fedkeys_client" "$folder/fedkeys_client"
