#!/bin/sh
# bootupd installs GRUB for BIOS by this name, and writes its configuration to `grub2` beside the kernels. Debian's GRUB
# looks for it in `grub`.
set -e
previous=
for argument; do
  case $argument in --boot-directory=*) boot=${argument#*=} ;; esac
  if [ "$previous" = --boot-directory ]; then boot=$argument; fi
  previous=$argument
done
if [ -n "${boot-}" ]; then
  mkdir -p "$boot/grub2"
  [ -e "$boot/grub" ] || ln -s grub2 "$boot/grub"
fi
exec grub-install "$@"
