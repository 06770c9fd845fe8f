"""Families of the domain `data`: what is asked for stands in files, and one file says where to look next."""

from __future__ import annotations

from env_registry.templates.draft import Draft, Family, Numbers


def answer(number: str) -> dict[str, tuple[str, ...]]:
    """Return what is wanted of a task that asks for one number in /app/out."""
    return {"out": (number,)}


def trail(numbers: Numbers) -> Draft:
    """A file names the next one, and so on; the last one holds the answer."""
    steps = numbers.several(numbers.rng.choice((2, 3)))
    end = numbers.one()
    nexts = [f"see {step}\n" for step in steps[1:]] + [f"end {end}\n"]
    reads = [f"cat {step}" for step in steps]
    return Draft(
        instruction=f"File {steps[0]} begins a trail. Follow it and write the end to out.",
        files=dict(zip(steps, nexts, strict=True)) | {numbers.one(): f"end {numbers.one()}\n"},
        solution=(*reads, f"echo {end} > out"),
        partial=(*reads[:-1], f"echo {steps[-1]} > out"),
        wanted=answer(end),
    )


def relay(numbers: Numbers) -> Draft:
    """A number is looked up in one table, what is found in the next, and again in a third."""
    key, second, third, end = chain = numbers.several(4)
    tables = {}
    for name, left, right in zip("abc", chain[:-1], chain[1:], strict=True):
        rows = [f"{left} {right}", *(f"{numbers.one()} {numbers.one()}" for _ in range(4))]
        numbers.rng.shuffle(rows)
        tables[name] = "".join(f"{row}\n" for row in rows)
    looks = [f"grep ^{number} {table}" for number, table in zip((key, second, third), "abc", strict=True)]
    return Draft(
        instruction=f"Look up {key} in a, that in b, that in c. Write the last to out.",
        files=tables,
        solution=(*looks, f"echo {end} > out"),
        partial=(*looks[:2], f"echo {third} > out"),
        wanted=answer(end),
    )


def largest(numbers: Numbers) -> Draft:
    """Of several files the largest holds the answer."""
    folder, end = numbers.one(), numbers.one()
    names = numbers.several(4)
    sizes = numbers.rng.sample(range(4, 40), len(names))
    big = names[sizes.index(max(sizes))]
    held = {name: numbers.one() for name in names} | {big: end}
    texts = {
        f"{folder}/{n}": f"holds {held[n]}\n" + "\n" * size for n, size in zip(names, sizes, strict=True)
    }
    other = next(name for name in names if name != big)
    return Draft(
        instruction=f"Write what the largest file of folder {folder} holds to out.",
        files=texts,
        solution=(f"ls -S {folder} | head -n 1", f"grep holds {folder}/{big}", f"echo {end} > out"),
        partial=(f"grep holds {folder}/{other}", f"echo {held[other]} > out"),
        wanted=answer(end),
    )


FAMILIES = (
    Family("trail", "data", 2, trail),
    Family("relay", "data", 3, relay),
    Family("largest", "data", 2, largest),
)
