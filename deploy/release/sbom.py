#!/usr/bin/env python3
"""Writes what the binary is made of as CycloneDX 1.6 (JSON) to stdout.

    sbom.py TARGET EPOCH [BINARY]        in the folder of Cargo.toml

What counts is cargo tree, which knows the features that are in use; cargo metadata tells the rest.
Packages of the build alone (build scripts, macros' own) have the scope "excluded": they are not in
the binary. Tests' packages are left out. The same tree gives the same bytes.
"""

import hashlib
import json
import subprocess
import sys
import time
import tomllib
import uuid


def cargo(*words):
    return subprocess.run(["cargo", *words], check=True, capture_output=True, text=True).stdout


def tree(target, edges):
    """Name and version of all packages that these edges lead to."""
    words = ["--locked", "--target", target, "-e", edges, "--prefix", "none", "--format", "{p}"]
    lines = cargo("tree", *words).splitlines()
    return {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line}


def named(package):
    return package["name"], package["version"]


def edges(node):
    return [(edge["pkg"], {kind["kind"] for kind in edge["dep_kinds"]}) for edge in node["deps"]]


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, checksums, scope):
    made = {
        "type": "library",
        "bom-ref": purl(package),
        "name": package["name"],
        "version": package["version"],
        "scope": scope,
        "purl": purl(package),
    }
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("license"):
        expression = " ".join(package["license"].replace("/", " OR ").split())
        made["licenses"] = [{"expression": expression}]
    if package.get("repository"):
        made["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return made


def main():
    target, epoch = sys.argv[1], int(sys.argv[2])
    every = cargo("metadata", "--format-version", "1", "--locked", "--filter-platform", target)
    metadata = json.loads(every)
    packages = {package["id"]: package for package in metadata["packages"]}
    graph = {node["id"]: edges(node) for node in metadata["resolve"]["nodes"]}
    root = metadata["resolve"]["root"]
    with open("Cargo.lock", "rb") as file:
        locked = tomllib.load(file)["package"]
    checksums = {(one["name"], one["version"]): one.get("checksum") for one in locked}

    inside = tree(target, "normal")
    whole = tree(target, "normal,build")
    listed = {one for one in graph if named(packages[one]) in whole}
    order = sorted(listed - {root}, key=lambda one: purl(packages[one]))
    top = component(packages[root], checksums, "required") | {"type": "application"}
    top["licenses"] = [{"license": {"id": "Apache-2.0"}}]
    if len(sys.argv) > 3:
        with open(sys.argv[3], "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        top["hashes"] = [{"alg": "SHA-256", "content": digest}]
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
            "component": top,
        },
        "components": [
            component(
                packages[one],
                checksums,
                "required" if named(packages[one]) in inside else "excluded",
            )
            for one in order
        ],
        "dependencies": [
            {
                "ref": purl(packages[one]),
                "dependsOn": sorted({
                    purl(packages[name])
                    for name, kinds in graph[one]
                    if name in listed and kinds & {None, "build"}
                }),
            }
            for one in [root, *order]
        ],
    }
    text = json.dumps(bom, indent=1, sort_keys=True)
    bom["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"
    print(json.dumps(bom, indent=1, sort_keys=True))


main()
