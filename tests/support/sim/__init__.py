"""Deterministic simulation: shards, hub, folder, store and devices of one seed in one thread, on a clock of its own.

The product runs, not a model of it: engine (through feed and take), hub core, hub loop, services, logins and the SQLite
store, each process with the trio tasks it really has. What a kernel does around them is simulated: time, disk, links,
network, supervisor. One seed decides everything; the same seed gives the same history.

    template.py   the data directory that every run begins with
    disk.py       what survives a power loss, what fails, what is full
    rings.py      links between processes
    hosts.py      the processes: start, kill, restart
    network.py    connections: chunks, delays, stalls, cuts
    device.py     a client, written from protocol/README.md; positions.py what it has and has to ask for, unanswered.py
                  what it has sent
    workload.py   what people do in it; final_read.py who reads everything in the end
    nemesis.py    the faults of a seed
    buggify.py    places at which some runs make the rare happen often
    shape.py      how many there are of everything
    cluster.py    time and processes; world.py a run over them, and its judgement
    shrink.py     from a failing run to few faults

campaigns/simulate.py runs many of them, `pytest tests/sim` some.
"""
