"""Half an hour of everything at once: `python -m benchmarks.soak`.

`actions` is what clients do, right and wrong, each with the answer that is expected; `clients` do
it, on one connection or another, and keep `tally`; `changes` loads and swaps models meanwhile;
`vitals` looks at the process's memory, files and threads. `page` writes what was seen.
"""
