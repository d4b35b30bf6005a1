#!/usr/bin/env python3
"""What a step of DiT-XL/2 takes on clusters that we do not have: a model on paper, from constants that were measured here.

    python Benchmarks/peers/cluster_model.py                       the table of the guide DiffusionTransformers.docc/Cluster.md
    python Benchmarks/peers/cluster_model.py --cores 32 --hosts 4 16 --rates 25

A step of P hosts with N trained parameters, B images and V = P virtual ranks:

    compute    B/P images, forward and back, on one host
    sums       the tree's additions of P slices of N/P, and AdamW with the average on N/P
    exchange   4 N (P - 1)/P bytes of gradients at the link's rate, or half of that; hidden behind the last micro-batch's backward pass
    gather     4 N (P - 1)/P bytes of weights; hidden behind the first one's forward pass
    messages   a bucket is P - 1 messages in each of the two; there are as many as 16 MiB or P blocks of 256 KiB make of N
    disk       a checkpoint of weights, average and moments by the first host, every so many steps

A host's cores are taken to be this machine's and to share the work as its two do, its memory to be ten times as fast.
"""

import argparse
import math

PARAMETERS = 675e6
BLOCK = 65536


def step(options, hosts: int, rate: float, batch: int) -> dict:
    seconds = options.image * options.cores_here / options.cores
    compute = batch / hosts * seconds
    overlapped = min(batch / hosts, options.micro) * seconds
    sums = PARAMETERS * (options.update + options.add * math.log2(hosts)) / hosts / options.memory
    wire = PARAMETERS * (hosts - 1) / hosts / (options.share * rate * 1e9 / 8)
    buckets = math.ceil(PARAMETERS / BLOCK / (math.ceil(64 / hosts) * hosts))
    messages = buckets * (hosts - 1) * options.message
    exchange, gather = options.gradient * wire + messages, 4 * wire + messages
    disk = 16 * PARAMETERS / min(options.disk, rate * 1e9 / 8) / options.every
    waited = max(0.0, exchange - overlapped * 2 / 3) + max(0.0, gather - overlapped / 3)
    total = compute + sums + waited + disk
    parts = {"compute": compute + sums, "wire": waited, "disk": disk}
    return {"seconds": total, "images": batch / total, "limit": max(parts, key=parts.get), **parts, "all": exchange + gather}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 25, 100], help="Gb/s of a host's link")
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--cores", type=int, default=64, help="of a host")
    parser.add_argument("--micro", type=int, default=32, help="images of a micro-batch")
    parser.add_argument("--memory", type=float, default=10, help="a host's memory bandwidth, over this machine's")
    parser.add_argument("--gradient", type=int, choices=[2, 4], default=4, help="bytes of a gradient on the wire")
    measured = parser.add_argument_group("measured")
    measured.add_argument("--cores-here", type=int, default=2)
    measured.add_argument("--image", type=float, default=1.86, help="seconds of an image on those, forward and back, bf16")
    measured.add_argument("--update", type=float, default=2.2e-9, help="seconds of AdamW and the average of an element on those")
    measured.add_argument("--add", type=float, default=0.8e-9, help="seconds of a sum of two elements on those")
    measured.add_argument("--share", type=float, default=0.95, help="of the link's rate that a bucket gets")
    measured.add_argument("--message", type=float, default=12.5e-6, help="seconds that a message takes whatever its length")
    measured.add_argument("--disk", type=float, default=356e6, help="bytes a second that a checkpoint is written with")
    parser.add_argument("--every", type=int, default=1000, help="steps between checkpoints")
    options = parser.parse_args()
    print("| batch | hosts | Gb/s | step | compute | wire, waited for (all) | images/s | of one host's | limited by |")
    print("|---|---|---|---|---|---|---|---|---|")
    alone = options.cores / options.cores_here / options.image
    for batch in options.batch:
        for hosts in options.hosts:
            if hosts > batch:
                continue
            for rate in options.rates:
                s = step(options, hosts, rate, batch)
                print(
                    f"| {batch} | {hosts} | {rate:g} | {s['seconds']:.2f} s | {s['compute']:.2f} s | {s['wire']:.2f} s "
                    f"({s['all']:.2f} s) | {s['images']:.0f} | {s['images'] / alone / hosts:.0%} | {s['limit']} |")


if __name__ == "__main__":
    main()
