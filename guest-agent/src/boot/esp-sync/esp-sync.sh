#!/bin/sh
# Copies the boot entries of OSTree, their kernels and initramfs to the EFI system partition.
# usage: esp-sync SYSROOT BOOT ESP
#
# systemd-boot reads the EFI system partition and nothing else; OSTree keeps its entries in /boot, with links that a FAT
# cannot have. particle-vm runs this when it makes the image, and particle-vm-esp-sync.service at every shutdown, after
# OSTree has finished what it has staged.
#
# An entry of OSTree names its deployment by way of a link, /ostree/boot.N/..., which the next update removes. A power cut
# between an update and this script would leave entries on the partition that boot nothing any more. So the copies name a
# link that stays for as long as the deployment: /ostree/boot-1/STATEROOT/CHECKSUM/SERIAL. Its form is one that
# ostree-system-generator(8) takes for one of its own ("boot.1" is a regular expression there).
set -eu
sysroot=$1 boot=$2 esp=$3
entries=$esp/loader/entries new=$esp/loader/entries.new
mkdir -p "$entries" "$esp/ostree"
rm -rf "$new"
mkdir "$new"

# Names of the folders with kernels that the given entries mention, with blanks around each.
kernels() {
    for entry; do
        [ -e "$entry" ] || continue
        sed -n -E 's#^(linux|initrd) (/boot)?/ostree/([^/]*)/.*#\3#p' "$entry"
    done | tr '\n' ' '
}

# Remove the kernels of all but the given entries.
prune() {
    keep=" $(kernels "$@")"
    for folder in "$esp"/ostree/*; do
        case $keep in
            *" ${folder##*/} "*) ;;
            *) rm -rf "$folder" ;;
        esac
    done
}

# Room first: what no entry needs, neither one that is there nor one that comes.
prune "$entries"/*.conf "$boot"/loader/entries/*.conf

links=" "
for entry in "$boot"/loader/entries/*.conf; do
    [ -e "$entry" ] || { echo "esp-sync: there are no entries in /boot/loader/entries" >&2; exit 1; }
    link=$(sed -n -E 's#^options (.* )?ostree=([^ ]*).*#\2#p' "$entry")
    deployment=$(readlink -f "$sysroot$link")
    # .../ostree/deploy/STATEROOT/deploy/CHECKSUM.SERIAL
    inside=${deployment#"$(readlink -f "$sysroot")"/ostree/deploy/}
    stateroot=${inside%%/*} name=${inside##*/}
    stable=ostree/boot-1/$stateroot/${name%%.*}/${name#*.}
    mkdir -p "$sysroot/${stable%/*}"
    ln -sfn "../../../deploy/$inside" "$sysroot/$stable"
    links="$links$stable "
    for key in linux initrd; do
        file=$(sed -n "s#^$key ##p" "$entry")
        [ -n "$file" ] || continue
        copy=$esp${file#/boot}
        # A folder is named by a checksum of what is in it, so that a file that is there is the same.
        if [ ! -e "$copy" ]; then
            mkdir -p "${copy%/*}"
            cp "$boot${file#/boot}" "$copy.new"
            sync "$copy.new"
            mv "$copy.new" "$copy"
        fi
    done
    sed -E -e 's#^(linux|initrd) /boot/#\1 /#' -e "s#ostree=[^ ]*#ostree=/$stable#" "$entry" > "$new/${entry##*/}"
done
sync -f "$esp"

# Nothing is taken away before what replaces it is there.
for entry in "$new"/*.conf; do
    mv -f "$entry" "$entries/"
done
for entry in "$entries"/ostree-*.conf; do
    [ -e "$boot/loader/entries/${entry##*/}" ] || rm -f "$entry"
done
rmdir "$new"
sync -f "$esp"

prune "$entries"/*.conf
for link in "$sysroot"/ostree/boot-1/*/*/*; do
    [ -L "$link" ] || continue
    case $links in
        *" ${link#"$sysroot"/} "*) ;;
        *) rm -f "$link"; rmdir "${link%/*}" 2>/dev/null || : ;;
    esac
done
sync -f "$esp"
