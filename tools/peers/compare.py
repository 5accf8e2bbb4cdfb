#!/usr/bin/env python3
"""Sets this crate's times against the peers': compare.py PEERS.json OURS.json"""

import json
import sys


def records(path):
    with open(path) as file:
        return [record for record in json.load(file)["results"] if "median_ms" in record]


def key(record):
    return json.dumps(record["shape"], sort_keys=True), record["dtype"], record["pass"]


def title(record):
    shape = record["shape"]
    mask = f"window {shape['window']}" if shape["window"] else "causal" if shape["causal"] else "full"
    heads = f"H {shape['H']}/{shape['Hk']} d {shape['d']} dv {shape['dv']}{' v2' if shape['v2'] else ''}"
    return f"{record['pass']} {record['dtype']} {heads} {shape['B']}x{shape['Nq']} {mask}"


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    peers = {}
    for record in records(sys.argv[1]):
        peers.setdefault(key(record), []).append(record)
    without = 0
    for ours in records(sys.argv[2]):
        found = sorted(peers.get(key(ours), []), key=lambda peer: peer["median_ms"])
        without += not found
        for peer in found:
            ratio = ours["median_ms"] / peer["median_ms"]
            print(f"{title(ours):58} {ours['provider']:14} {ours['median_ms']:9.3f} ms = {ratio:5.2f} of {peer['provider']} ({peer['median_ms']:.3f} ms)")
    if without:
        print(f"{without} of our times have no peer of the same shape, type and pass")


if __name__ == "__main__":
    main()
