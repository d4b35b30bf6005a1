#!/usr/bin/env python3
"""A training step by ranks of one thread: `dit train --distributed mpi` beside PyTorch's DDP with Gloo, in turns.

    swift build -c release
    pip install torch numpy safetensors
    python Benchmarks/peers/cluster.py --ours .build/release/dit                      on one host
    python Benchmarks/peers/cluster.py --ours .build/release/dit --rate 1gbit         two hosts, as root

With --rate the ranks are in network namespaces of their own, what each sends is limited to that rate, and both sides use TCP;
without it Open MPI takes shared memory, and Gloo the loopback device. Both train the same network on latents that are noise, with
AdamW and a moving average: DDP's gradient is all-reduced in its buckets of 25 MB while the backward pass goes on. Each run is a launch of its
own; its seconds are those of its steps, without the first two. Medians over all rounds' steps. The ratio is of medians of the same
round. Memory is the largest resident set of a rank, of DDP's first. Nothing else may compute meanwhile.

    … --size B --ranks 4 --batch 8 --micro 1 --steps 3 --rounds 1 --only ours         memory of one rank and of four
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}
CLASSES, CHANNELS, SIDE, PATCH = 1000, 4, 32, 2
SKIPPED = 2


def rank(arguments: argparse.Namespace) -> None:
    """One of DDP's processes; the first prints the seconds of each step."""
    import torch
    import torch.distributed as distributed
    import torch.nn.functional as F
    from network import DiT

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    hidden, depth, heads = SIZES[arguments.size]
    config = {"hidden": hidden, "depth": depth, "heads": heads, "patch": PATCH, "input": (SIDE, SIDE)}
    config |= {"channels": CHANNELS, "classes": CLASSES, "learn_sigma": False}
    torch.manual_seed(0)
    model = DiT(config)
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    average = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05, fused=True)
    own = arguments.batch // distributed.get_world_size()
    kept = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000), 0)
    latents = torch.randn(256, CHANNELS, SIDE, SIDE)
    for step in range(arguments.steps):
        distributed.barrier()
        start = time.perf_counter()
        clean, noise = latents[torch.randint(256, (own,))], torch.randn(own, CHANNELS, SIDE, SIDE)
        t, y = torch.randint(1000, (own,)), torch.randint(CLASSES, (own,))
        level = kept[t][:, None, None, None]
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            output = parallel(level.sqrt() * clean + (1 - level).sqrt() * noise, t.float(), y)
        F.mse_loss(output.float(), noise).backward()
        optimizer.step()
        torch._foreach_lerp_(average, [p.detach() for p in trained], 1e-4)
        if distributed.get_rank() == 0:
            print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    if distributed.get_rank() == 0:
        print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)
    distributed.destroy_process_group()


def peak(file: str, command: list[str]) -> int:
    """Runs a command, and writes its largest resident set in bytes."""
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    with open(file, "a") as out:
        out.write(f"{usage.ru_maxrss * 1024}\n")
    return os.waitstatus_to_exitcode(status)


class Hosts:
    """Two network namespaces with a link of a given rate between them; without a rate this host."""

    def __init__(self, rate: str | None, work: Path):
        self.rate, self.agent = rate, work / "agent"
        if rate is None:
            return
        for host in (1, 2):
            self.ip(f"netns add bench{host}")
        self.ip("link add eth0 netns bench1 type veth peer name eth0 netns bench2")
        for host in (1, 2):
            self.ip(f"-n bench{host} addr add 10.78.0.{host}/24 dev eth0")
            self.ip(f"-n bench{host} link set eth0 up")
            self.ip(f"-n bench{host} link set lo up")
            limit = f"tc qdisc add dev eth0 root tbf rate {rate} burst 256k latency 50ms"
            subprocess.run(["ip", "netns", "exec", f"bench{host}", *limit.split()], check=True)
        # In the place of ssh.
        self.agent.write_text(
            "#!/bin/bash\nhost=${1##*.}; shift; mkdir -p \"$0.tmp$host\"; export TMPDIR=\"$0.tmp$host\"\n"
            "exec ip netns exec \"bench$host\" unshare --uts /bin/sh -c \"hostname bench$host; $*\"\n")
        self.agent.chmod(0o755)

    @staticmethod
    def ip(words: str) -> None:
        subprocess.run(["ip", *words.split()], check=True)

    def inside(self, host: int, command: list[str]) -> list[str]:
        return command if self.rate is None else ["ip", "netns", "exec", f"bench{host}", *command]

    def mpirun(self, ranks: int) -> list[str]:
        command = ["mpirun.openmpi", "--allow-run-as-root", "--bind-to", "none", "--oversubscribe", "-np", str(ranks)]
        command += ["-x", "OMP_NUM_THREADS=1"]
        if self.rate is None:
            return command + ["--mca", "btl_vader_single_copy_mechanism", "none"]
        net = "10.78.0.0/24"
        command += ["-H", "10.78.0.1,10.78.0.2", "--mca", "plm_rsh_agent", str(self.agent), "--mca", "btl", "tcp,self"]
        return self.inside(1, command + ["--mca", "btl_tcp_if_include", net, "--mca", "oob_tcp_if_include", net])

    def close(self) -> None:
        if self.rate is not None:
            for host in (1, 2):
                subprocess.run(["ip", "netns", "del", f"bench{host}"], check=False)


class Ours:
    def __init__(self, options, hosts: Hosts, work: Path, ranks: int, precision: str, exchange="fp32", overlap=True):
        threads = "1 thread" if ranks > 1 else "2 threads"
        self.name = f"ours {precision}, {ranks} × {threads}"
        if ranks > 1:
            self.name += f", gradients {exchange}, " + ("overlapped" if overlap else "afterwards")
        hidden, depth, heads = SIZES[options.size]
        model = {"input_size": SIDE, "patch_size": PATCH, "in_channels": CHANNELS, "hidden_size": hidden, "depth": depth}
        model |= {"num_heads": heads, "num_classes": CLASSES, "learn_sigma": False}
        training = {"steps": options.steps, "batch": options.batch, "micro_batch": options.micro or options.batch // options.ranks}
        training |= {"virtual_ranks": options.ranks, "precision": precision, "exchange": exchange, "warmup_steps": 1, "flip": False}
        training |= {"validation_modulus": 0, "sample_every": 0, "checkpoint_every": 100000, "log_every": 1}
        config = work / f"{self.name}.json".replace(" ", "-")
        config.write_text(json.dumps({"model": model, "training": training}))
        self.out = work / self.name.replace(" ", "-")
        self.peaks = work / "peaks"
        command = [sys.executable, __file__, "--peak", str(self.peaks), options.ours, "train", "--data", str(work / "latents.safetensors"), "--config", str(config)]
        command += ["--out", str(self.out)]
        if ranks > 1:
            command += ["--distributed", "mpi"] + ([] if overlap else ["--no-overlap"])
            command = hosts.mpirun(ranks) + command
        else:
            command += ["--threads", "2"]
        self.command = command

    def run(self) -> list[float]:
        subprocess.run(["rm", "-rf", str(self.out), str(self.peaks)], check=True)
        done = subprocess.run(self.command, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{self.name}: {done.stderr}")
        self.memory = max(map(int, self.peaks.read_text().split()))
        lines = [json.loads(line) for line in (self.out / "log.jsonl").read_text().splitlines()]
        return [line["seconds"] for line in lines if "seconds" in line][SKIPPED:]


class Theirs:
    def __init__(self, options, hosts: Hosts, precision: str):
        self.name, self.hosts, self.ranks = f"DDP {precision}, {options.ranks} × 1 thread", hosts, options.ranks
        self.command = [sys.executable, __file__, "--rank", "--ours", "", "--size", options.size, "--precision", precision]
        self.command += ["--steps", str(options.steps), "--batch", str(options.batch)]

    def run(self) -> list[float]:
        address, device = ("127.0.0.1", "lo") if self.hosts.rate is None else ("10.78.0.1", "eth0")
        environment = {**os.environ, "MASTER_ADDR": address, "MASTER_PORT": "29511", "WORLD_SIZE": str(self.ranks)}
        environment |= {"GLOO_SOCKET_IFNAME": device, "OMP_NUM_THREADS": "1"}
        ranks = [
            subprocess.Popen(
                self.hosts.inside(number + 1, self.command), env=environment | {"RANK": str(number)}, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for number in range(self.ranks)
        ]
        answers = [process.communicate() for process in ranks]
        if any(process.returncode for process in ranks):
            sys.exit(f"{self.name}: " + "\n".join(errors for _, errors in answers))
        lines = [json.loads(line) for line in answers[0][0].splitlines()]
        self.memory = lines[-1]["peak"]
        return [line["seconds"] for line in lines[:-1]][SKIPPED:]


def main() -> None:
    if sys.argv[1:2] == ["--peak"]:
        sys.exit(peak(sys.argv[2], sys.argv[3:]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", required=True, help="the tool")
    parser.add_argument("--rate", help="of the link between two hosts, as tc writes it: 1gbit")
    parser.add_argument("--ranks", type=int, default=2, help="of one thread each; on two hosts two")
    parser.add_argument("--size", choices=SIZES, default="S")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro", type=int, help="samples at a time (default: all of a rank)")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="engines whose names match this")
    parser.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank:
        return rank(options)
    if options.ranks < 2 or options.rate and options.ranks > 2:
        parser.error("--ranks: two or more on one host, two with --rate")
    if options.steps <= SKIPPED:
        parser.error(f"--steps: more than the {SKIPPED} that are left out")
    import numpy as np
    from safetensors.numpy import save_file

    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "DIT_ISA"):
        os.environ.pop(variable, None)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        random = np.random.default_rng(0)
        images = random.standard_normal((256, CHANNELS, SIDE, SIDE), dtype=np.float32)
        save_file({"latents": images, "labels": random.integers(0, CLASSES, 256)}, work / "latents.safetensors")
        hosts = Hosts(options.rate, work)
        precision = options.precision
        engines = [Ours(options, hosts, work, 1, precision)] if options.rate is None else []
        for exchange in ("fp32", "bf16"):
            engines += [Ours(options, hosts, work, options.ranks, precision, exchange, overlap) for overlap in (True, False)]
        engines.append(Theirs(options, hosts, precision))
        engines = [engine for engine in engines if re.search(options.only, engine.name)] or parser.error("--only: no engine")
        seconds = {engine.name: [] for engine in engines}
        try:
            for round in range(options.rounds):
                for engine in engines if round % 2 == 0 else reversed(engines):
                    seconds[engine.name].append(engine.run())
        finally:
            hosts.close()
    info = subprocess.run([options.ours, "mpi-info"], capture_output=True, text=True, check=True).stdout
    print(next(line for line in info.splitlines() if line.startswith("rank 0")))
    print(f"DiT-{options.size}/2, batch {options.batch}, {options.rate or 'one host'}, {options.rounds} rounds")
    first, last = engines[0].name, engines[-1].name
    print(f"{'':58} s/step  images/s    MB  × {first} × {last}")
    memory = {engine.name: engine.memory for engine in engines}
    for name, rounds in seconds.items():
        median = statistics.median(sum(rounds, []))
        middle = [statistics.median(steps) for steps in rounds]
        ratios = [
            statistics.median(statistics.median(b) / a for a, b in zip(middle, seconds[other])) for other in (first, last)
        ]
        print(f"{name:58} {median:6.3f}  {options.batch / median:8.2f} {memory[name] / 1e6:5.0f}  {ratios[0]:.3f}  {ratios[1]:.3f}")


if __name__ == "__main__":
    main()
