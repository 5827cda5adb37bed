#!/bin/sh
# Collects a binary, the libraries that it is linked to, and the system's trust anchors, as the root of
# an image on `scratch`: rootfs.sh BINARY FOLDER [NAME]
set -eu

binary="$1"
root="$2"
name="${3:-bearerd}"

rm -rf "$root"
mkdir -p "$root/etc/ssl/certs"
cp "$binary" "$root/$name"
strip --strip-debug "$root/$name" 2>/dev/null || true
# Each line names a library and its path. The loader's line has only a path.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done
if [ -f /etc/ssl/certs/ca-certificates.crt ]; then
    cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
fi
# Names are looked up in files first, then in the DNS. Both modules are part of the C library.
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
echo 'nonroot:x:65532:65532::/:/' >"$root/etc/passwd"
chmod -R u=rwX,go=rX "$root"
