#!/bin/sh
# Makes what only maintainer scripts make. Runs once, as root, in the appliance's own VM, after the packages have been
# unpacked; the files that it changes become the second layer of the root file system.
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin DEBIAN_FRONTEND=noninteractive DPKG_MAINTSCRIPT_PACKAGE=particle-vm

# Accounts, the folders of base-files, nsswitch.conf and the cache of the dynamic linker, and the alternatives `which`
# and `awk`: the scripts of the packages themselves, which are short and ask nothing.
for package in base-passwd base-files libc-bin debianutils mawk; do
    echo "configure $package"
    /bin/sh -e "/var/lib/dpkg/info/$package.postinst" configure ""
done

# All certificates that Mozilla trusts. The package's own script asks debconf for this list.
echo "certificates"
(cd /usr/share/ca-certificates && find . -name '*.crt' -type f | sed 's,^\./,,' | sort) > /etc/ca-certificates.conf
update-ca-certificates

echo "modules"
depmod -a

# So that tools which look for them find them.
echo "127.0.0.1 localhost particle-vm" > /etc/hosts
echo "particle-vm" > /etc/hostname
[ -e /etc/mtab ] || ln -s ../proc/self/mounts /etc/mtab
[ -e /etc/machine-id ] || : > /etc/machine-id
