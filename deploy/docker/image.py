#!/usr/bin/env python3
"""Packs root folders into an OCI image layout: one tar file, made without root and without Docker.

    image.py --name NAME --version VERSION --epoch SECONDS --output FILE.tar ARCH=FOLDER..

Owners, modes and times come from here, not from the disk: the same files give the same bytes.
Several architectures become one index. scripts/image.sh prepares the folders.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import tarfile
import time

OWNER = 65532
# What the gateway may write to, where the root is not read-only.
OWNED = ("run/onemcp", "var/lib/onemcp")
# No variable of the gateway: those would win over the flags of who runs it.
ENVIRONMENT = [
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
    "XDG_CONFIG_HOME=/etc",
    "XDG_RUNTIME_DIR=/run",
    "XDG_STATE_HOME=/var/lib",
]


def entry(name, epoch, kind, mode, owner=0):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, epoch
    info.uid = info.gid = owner
    return info


def layer(folder, epoch):
    """The files of a folder as a tar, in the order of their names."""
    out = io.BytesIO()
    names = []
    for place, folders, files in os.walk(folder):
        names += [os.path.relpath(os.path.join(place, name), folder) for name in folders + files]
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(names):
            add(tar, folder, name, epoch)
    return out.getvalue()


def add(tar, folder, name, epoch):
    path = os.path.join(folder, name)
    if os.path.islink(path):
        info = entry(name, epoch, tarfile.SYMTYPE, 0o777)
        info.linkname = os.readlink(path)
        tar.addfile(info)
    elif os.path.isdir(path):
        owned = name in OWNED
        mode = 0o1777 if name == "tmp" else 0o700 if owned else 0o755
        tar.addfile(entry(name, epoch, tarfile.DIRTYPE, mode, OWNER if owned else 0))
    else:
        runs = os.access(path, os.X_OK)
        info = entry(name, epoch, tarfile.REGTYPE, 0o755 if runs else 0o644)
        info.size = os.path.getsize(path)
        with open(path, "rb") as file:
            tar.addfile(info, file)


class Layout:
    """The files of the image layout, blobs by their digest."""

    def __init__(self):
        self.files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(self, kind, data, **more):
        if not isinstance(data, bytes):
            data = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
        digest = hashlib.sha256(data).hexdigest()
        self.files[f"blobs/sha256/{digest}"] = data
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data), **more}

    def image(self, asked, architecture, folder):
        plain = layer(folder, asked.epoch)
        packed = gzip.compress(plain, 9, mtime=0)
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(asked.epoch))
        labels = {
            "org.opencontainers.image.title": asked.name,
            "org.opencontainers.image.version": asked.version,
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.description": "One endpoint for all your MCP servers",
        }
        config = self.blob("config.v1+json", {
            "architecture": architecture,
            "os": "linux",
            "created": created,
            "config": {
                "User": f"{OWNER}:{OWNER}",
                "Entrypoint": ["/onemcp", "--host", "0.0.0.0"],
                "Env": ENVIRONMENT,
                "ExposedPorts": {"3050/tcp": {}},
                "WorkingDir": "/",
                "StopSignal": "SIGTERM",
                "Labels": labels,
            },
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"],
            },
            "history": [{"created": created, "created_by": "scripts/image.sh"}],
        })
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [self.blob("layer.v1.tar+gzip", packed)],
            "annotations": labels,
        }
        platform = {"architecture": architecture, "os": "linux"}
        return self.blob("manifest.v1+json", manifest, platform=platform)

    def index(self, asked, images):
        kind = "application/vnd.oci.image.index.v1+json"
        top = images[0]
        if len(images) > 1:
            top = self.blob(
                "index.v1+json", {"schemaVersion": 2, "mediaType": kind, "manifests": images}
            )
        top["annotations"] = {"org.opencontainers.image.ref.name": asked.version}
        index = {"schemaVersion": 2, "mediaType": kind, "manifests": [top]}
        self.files["index.json"] = json.dumps(index, sort_keys=True).encode()

    def write(self, path, epoch):
        folders = ["blobs", "blobs/sha256"]
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for name in folders:
                tar.addfile(entry(name, epoch, tarfile.DIRTYPE, 0o755))
            for name, data in sorted(self.files.items()):
                info = entry(name, epoch, tarfile.REGTYPE, 0o644)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--epoch", required=True, type=int)
    parser.add_argument("--output", required=True)
    parser.add_argument("roots", nargs="+", metavar="ARCH=FOLDER")
    asked = parser.parse_args()
    layout = Layout()
    pairs = [root.split("=", 1) for root in asked.roots]
    layout.index(asked, [layout.image(asked, arch, folder) for arch, folder in pairs])
    layout.write(asked.output, asked.epoch)


main()
