#!/bin/sh
# Makes what only maintainer scripts make. Runs once, as root, in the appliance's own VM, after the packages have been
# unpacked; the files that it changes become the second layer of the root file system.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin DPKG_MAINTSCRIPT_PACKAGE=base-files

echo "accounts"
# As base-passwd does; its own script starts debconf, which has nothing to ask.
cp /usr/share/base-passwd/passwd.master /etc/passwd
cp /usr/share/base-passwd/group.master /etc/group

# Folders, nsswitch.conf, the cache of the dynamic linker: the scripts of the packages themselves, which ask nothing.
for package in base-files libc-bin; do
    echo "$package"
    /bin/sh "/var/lib/dpkg/info/$package.postinst" configure ""
done

echo "alternatives"
update-alternatives --quiet --install /usr/bin/which which /usr/bin/which.debianutils 0
update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/mawk 5

# The certificates that Mozilla trusts, as update-ca-certificates puts them together. It would also make a link for each
# by its hash, which takes half of the whole run under emulation and serves programs that look into the folder only.
echo "certificates"
find /usr/share/ca-certificates -name '*.crt' -type f | sort | xargs cat > /etc/ssl/certs/ca-certificates.crt
[ -s /etc/ssl/certs/ca-certificates.crt ]

echo "modules"
depmod -a

# So that tools which look for them find them.
echo "127.0.0.1 localhost particle-vm" > /etc/hosts
echo "particle-vm" > /etc/hostname
[ -e /etc/mtab ] || ln -s ../proc/self/mounts /etc/mtab
[ -e /etc/machine-id ] || : > /etc/machine-id
